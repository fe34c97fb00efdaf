/** A registry on loopback with a data directory of its own, and requests to it, byte for byte. */
import { mkdtempSync, rmSync } from 'node:fs';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { digestOf } from '../../src/oci/digest.js';
import { MEDIA_TYPE } from '../../src/oci/manifest.js';
import { createRegistry, type Registry, type RegistryOptions } from '../../src/registry/registry.js';

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

export interface RequestOptions {
  headers?: Record<string, string>;
  body?: Uint8Array | string;
  /** Sends the body without Content-Length. */
  chunked?: boolean;
}

export class TestRegistry {
  /** Headers of every request, such as credentials. */
  headers: Record<string, string> = {};

  private constructor(
    readonly directory: string,
    readonly options: Omit<RegistryOptions, 'data'>,
    public registry: Registry,
    public url: string,
  ) {}

  static async start(options: Omit<RegistryOptions, 'data'> = {}): Promise<TestRegistry> {
    const directory = mkdtempSync(join(tmpdir(), 'orca-registry-'));
    const registry = await createRegistry({ ...options, data: join(directory, 'data') });
    return new TestRegistry(directory, options, registry, await registry.listen());
  }

  get data(): string {
    return join(this.directory, 'data');
  }

  get host(): string {
    return new URL(this.url).host;
  }

  async restart(): Promise<void> {
    await this.registry.close();
    this.registry = await createRegistry({ ...this.options, data: this.data });
    this.url = await this.registry.listen();
  }

  async stop(): Promise<void> {
    await this.registry.close(100);
    rmSync(this.directory, { recursive: true });
  }

  /** `path` goes to the server as it is. */
  send(
    method: string,
    path: string,
    { headers = {}, body, chunked = false }: RequestOptions = {},
  ): Promise<Answer> {
    const { protocol, hostname, port } = new URL(this.url);
    const length = body === undefined || chunked ? {} : { 'content-length': `${Buffer.byteLength(body)}` };
    const request = protocol === 'https:' ? httpsRequest : httpRequest;
    return new Promise((resolve, reject) => {
      const sent = request(
        {
          hostname,
          port,
          method,
          path,
          headers: { ...length, ...this.headers, ...headers },
          agent: false,
          rejectUnauthorized: false,
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('error', reject);
          response.on('end', () =>
            resolve({
              status: response.statusCode ?? 0,
              headers: response.headers,
              body: Buffer.concat(chunks),
            }),
          );
        },
      );
      sent.on('error', reject);
      sent.end(body);
    });
  }

  /** Pushes a blob in one request and gives its digest. */
  async pushBlob(
    repository: string,
    bytes: Uint8Array,
    headers: Record<string, string> = {},
  ): Promise<string> {
    const digest = digestOf(bytes);
    const path = `/v2/${repository}/blobs/uploads/?digest=${digest}`;
    const answer = await this.send('POST', path, { body: bytes, headers });
    if (answer.status !== 201) throw new Error(`push of a blob: ${answer.status} ${answer.body}`);
    return digest;
  }

  /** Begins an upload and gives its path. */
  async startUpload(repository: string): Promise<string> {
    const { headers } = await this.send('POST', `/v2/${repository}/blobs/uploads/`);
    return headers.location ?? '';
  }

  /** Pushes an image of one layer, under a tag, and gives the digest and the bytes of its manifest. */
  async pushImage(
    repository: string,
    tag: string,
    layer: Uint8Array | string = `layer of ${repository}:${tag}`,
    fields: Record<string, unknown> = {},
  ): Promise<{ digest: string; bytes: Buffer }> {
    const content = Buffer.from(layer);
    const config = Buffer.from(JSON.stringify({ os: 'linux', architecture: 'amd64' }));
    const bytes = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: MEDIA_TYPE.manifest,
        config: {
          mediaType: MEDIA_TYPE.config,
          digest: await this.pushBlob(repository, config),
          size: config.length,
        },
        layers: [
          {
            mediaType: MEDIA_TYPE.layerTar,
            digest: await this.pushBlob(repository, content),
            size: content.length,
          },
        ],
        ...fields,
      }),
    );
    const answer = await this.pushManifest(repository, tag, bytes);
    if (answer.status !== 201) throw new Error(`push of a manifest: ${answer.status} ${answer.body}`);
    return { digest: digestOf(bytes), bytes };
  }

  pushManifest(
    repository: string,
    reference: string,
    bytes: Uint8Array | string,
    type: string = MEDIA_TYPE.manifest,
  ): Promise<Answer> {
    const headers = { 'content-type': type };
    return this.send('PUT', `/v2/${repository}/manifests/${reference}`, { body: bytes, headers });
  }
}

/** Codes of the errors in a response. */
export function errorCodes(answer: Answer): string[] {
  const { errors } = JSON.parse(answer.body.toString()) as { errors: { code: string }[] };
  return errors.map(({ code }) => code);
}

export function json(answer: Answer): unknown {
  return JSON.parse(answer.body.toString());
}
