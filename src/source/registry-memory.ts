/**
 * What registries have said of images, kept in CACHE/references so that an image mounts while its registry is away:
 * for each reference and platform the manifest it stood for, when, and how it could be read. No secrets.
 */
import { createHash } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { replaceFile } from '../oci/durable-file.js';
import { JsonObject } from '../oci/json-object.js';
import type { Platform } from '../oci/manifest.js';
import { DEFAULT_PLATFORM, formatPlatform } from '../oci/platform.js';
import { formatReference, type Reference } from '../oci/reference.js';
import {
  encodeMountDescription,
  MAX_DESCRIPTION_BYTES,
  type MountDescription,
  parseMountDescription,
} from './mount-description.js';

export interface RememberedImage {
  description: MountDescription;
  /** Milliseconds since 1970. */
  resolvedAt: number;
}

const VERSION = 1;

export class RegistryMemory {
  readonly #directory: string;

  constructor(cacheDir: string) {
    this.#directory = join(cacheDir, 'references');
  }

  /** undefined for what was never resolved, or is not readable any more. */
  async read(reference: Reference, platform?: Platform): Promise<RememberedImage | undefined> {
    const path = this.#path(reference, platform);
    try {
      const json = JsonObject.parse(await readFile(path), 2 * MAX_DESCRIPTION_BYTES, 'PROTOCOL', path);
      if (json.size('version') !== VERSION || json.string('reference') !== nameOf(reference)) {
        return undefined;
      }
      const bytes = Buffer.from(json.requiredString('description'));
      const base = new URL(`https://${reference.domain}/`);
      return {
        description: parseMountDescription(bytes, base, path),
        resolvedAt: json.size('resolvedAt'),
      };
    } catch {
      return undefined;
    }
  }

  /** Without it the next mount asks the registry, so failure is no error. */
  async write(
    reference: Reference,
    platform: Platform | undefined,
    description: MountDescription,
  ): Promise<void> {
    const path = this.#path(reference, platform);
    const document = {
      version: VERSION,
      reference: nameOf(reference),
      platform: formatPlatform(platform ?? DEFAULT_PLATFORM),
      resolvedAt: Date.now(),
      description: Buffer.from(encodeMountDescription(description)).toString(),
    };
    try {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      await replaceFile(path, JSON.stringify(document));
    } catch {}
  }

  #path(reference: Reference, platform: Platform = DEFAULT_PLATFORM): string {
    const key = `${nameOf(reference)} ${formatPlatform(platform)}`;
    return join(this.#directory, `${createHash('sha256').update(key).digest('hex')}.json`);
  }
}

/** Beside a digest the tag means nothing. */
function nameOf({ domain, path, tag, digest }: Reference): string {
  return formatReference({ domain, path, ...(digest === undefined ? { ...(tag && { tag }) } : { digest }) });
}
