import { ApiError } from './api-error.js';

/** Bounds the uploads that are received at the same time: each holds a file and up to 1 MiB of memory. */
export class UploadSlots {
  private used = 0;

  constructor(private readonly limit: number) {}

  /** Runs `action`; throws ApiError TOOMANYREQUESTS when the limit is reached. */
  async using<T>(action: () => Promise<T>): Promise<T> {
    if (this.used >= this.limit) {
      throw new ApiError('TOOMANYREQUESTS', {
        message: `${this.limit} uploads are under way; try again`,
        headers: { 'retry-after': '5' },
      });
    }
    this.used++;
    try {
      return await action();
    } finally {
      this.used--;
    }
  }
}
