/** A registry in memory whose mount API offers an image of a store, in words that a test may change at any time. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { blobPath } from '../../src/image/catalog.js';
import { type Descriptor, MEDIA_TYPE, parseManifest } from '../../src/oci/manifest.js';
import { FakeRegistry } from '../oci/fake-registry.js';
import type { TestImage } from './store-fixture.js';

export class TeleportingRegistry {
  /** What the mount API offers. */
  transports: object[] = [];
  /** More fields of its answer: region, reason, … */
  more: object = {};
  /** Until it is over, the mount API answers 409 with these layers. */
  expanding: object[] | undefined;
  /** How often the mount API was asked. */
  questions = 0;
  #stopped: Promise<void> | undefined;

  private constructor(
    readonly registry: FakeRegistry,
    readonly manifest: Descriptor,
    private readonly image: TestImage,
  ) {
    registry.fault = (request, response) => {
      if (!request.url?.startsWith('/mount/')) return false;
      this.questions += 1;
      const { expanding: layers } = this;
      response.writeHead(layers ? 409 : 200, { 'content-type': 'application/json' });
      response.end(
        JSON.stringify(layers ? { errors: [{ code: 'EXPANDING', detail: { layers } }] } : this.#answer()),
      );
      return true;
    };
  }

  /** Offers the image as `app:1`. */
  static async start(store: string, image: TestImage): Promise<TeleportingRegistry> {
    const registry = await FakeRegistry.start();
    const read = (digest: string) => readFile(join(store, blobPath(digest)));
    const bytes = await read(image.manifestDigest);
    registry.addManifest(MEDIA_TYPE.manifest, await read(image.artifact.digest));
    for (const { digest } of [parseManifest(bytes).config, image.imageIndex, ...image.digests]) {
      registry.blobs.set(digest, await read(digest));
    }
    return new TeleportingRegistry(registry, registry.addManifest(MEDIA_TYPE.manifest, bytes, '1'), image);
  }

  /** `HOST/app:1`. */
  get name(): string {
    return `${this.registry.host}/app:1`;
  }

  get pinned(): string {
    return `${this.registry.host}/app@${this.manifest.digest}`;
  }

  #answer(): object {
    const { image, manifest, transports, more } = this;
    const layers = image.layers.map(({ digests, bytes }) => ({
      diffID: digests.diffID,
      size: bytes.length,
      blob: { mediaType: MEDIA_TYPE.layerGzip, digest: digests.diffID, size: 1 },
    }));
    return { manifest, artifact: image.artifact, region: 'here', layers, transports, ...more };
  }

  /** May be called again. */
  async stop(): Promise<void> {
    this.#stopped ??= this.registry.stop();
    await this.#stopped;
  }
}
