/** What one container uses of a shared mount, told as a mount of its own. */
import type { Mount } from '../mount/mount.js';
import type { MountDetails, MountInfo } from './api.js';
import type { CompleteRecord, ServedMount } from './served-mount.js';

/** A mount as users see it. */
export interface ListedMount {
  readonly record: CompleteRecord;
  readonly mount: Mount;
  info(): MountInfo;
  details(): MountDetails;
}

export class ContainerUse implements ListedMount {
  readonly record: CompleteRecord;
  readonly #served: ServedMount;

  constructor(record: CompleteRecord, served: ServedMount) {
    this.record = record;
    this.#served = served;
  }

  get mount(): Mount {
    return this.#served.mount;
  }

  /** Reads and hits are those of all containers that share the mount. */
  info(): MountInfo {
    return { ...this.#served.info(), ...this.#own() };
  }

  details(): MountDetails {
    return { ...this.#served.details(), ...this.#own() };
  }

  #own(): Partial<MountInfo> {
    const { id, image, mountpoint, request, createdAt } = this.record;
    const { container } = request;
    return { id, image: image.name, mountpoint, createdAt, ...(container !== undefined && { container }) };
  }
}
