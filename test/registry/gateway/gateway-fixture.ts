/** A gateway before an upstream: the project's registry, or a server that does what real ones do not. */
import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { TELEPORT_TYPE } from '../../../src/image/artifact.js';
import { digestOf } from '../../../src/oci/digest.js';
import { MEDIA_TYPE } from '../../../src/oci/manifest.js';
import { parsePushedManifest } from '../../../src/registry/pushed-manifest.js';
import type { RegistryOptions } from '../../../src/registry/registry.js';
import { TestRegistry } from '../server-fixture.js';

type Options = Omit<RegistryOptions, 'data' | 'upstream'>;

export class Pair {
  private constructor(
    readonly upstream: TestRegistry,
    readonly gateway: TestRegistry,
  ) {}

  static async start(gateway: Options = {}, upstream: Options = {}): Promise<Pair> {
    const behind = await TestRegistry.start(upstream);
    return new Pair(behind, await startGateway(behind.url, gateway));
  }

  async stop(): Promise<void> {
    await this.gateway.stop();
    await this.upstream.stop();
  }
}

export function startGateway(url: string, options: Options = {}): Promise<TestRegistry> {
  return TestRegistry.start({ teleportDefault: false, ...options, upstream: { url } });
}

export interface FakeUpstream {
  url: string;
  /** Requests in their order. */
  requests: IncomingMessage[];
  stop(): Promise<void>;
}

export async function startFake(handler: RequestListener): Promise<FakeUpstream> {
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    requests.push(request);
    handler(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export async function enable({ registry }: TestRegistry, name: string): Promise<void> {
  await registry.context.storage.repository(name).setAttributes({ teleportEnabled: true });
}

/** Gives the gateway a teleport artifact of an image, as the expansion does. */
export async function addArtifact(
  { registry }: TestRegistry,
  name: string,
  subject: { digest: string; bytes: Uint8Array },
): Promise<{ digest: string; bytes: Buffer; blob: string; content: Buffer }> {
  const repository = registry.context.storage.repository(name);
  const content = Buffer.from(`image index of ${subject.digest}`);
  const config = Buffer.from('{}');
  const descriptor = (bytes: Buffer, mediaType: string) => ({
    mediaType,
    digest: digestOf(bytes),
    size: bytes.length,
  });
  for (const bytes of [content, config]) await repository.putBlob(digestOf(bytes), bytes);
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.manifest,
      artifactType: TELEPORT_TYPE,
      config: descriptor(config, MEDIA_TYPE.empty),
      layers: [descriptor(content, 'application/vnd.orca.image-index.v1+erofs')],
      subject: { mediaType: MEDIA_TYPE.manifest, digest: subject.digest, size: subject.bytes.length },
    }),
  );
  await repository.putManifest(parsePushedManifest(bytes, MEDIA_TYPE.manifest), [], async () => undefined);
  return { digest: digestOf(bytes), bytes, blob: digestOf(content), content };
}
