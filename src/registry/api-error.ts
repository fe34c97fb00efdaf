/** Errors that end a request, as the distribution-spec has them: a status and a body `{"errors": [...]}`. */
import { ERROR_CODES, type ErrorCodeName, type ErrorItem } from '../oci/error-codes.js';

export interface ApiErrorOptions {
  /** What exactly is wrong, for the person who reads it; default: the text of the code. */
  message?: string;
  detail?: unknown;
  /** Instead of the status of the code. */
  status?: number;
  headers?: Readonly<Record<string, string>>;
}

export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** The body's list; it has one element or more. */
  readonly items: readonly ErrorItem[];

  constructor(code: ErrorCodeName, options: ApiErrorOptions = {}, items?: readonly ErrorItem[]) {
    const { status, message } = ERROR_CODES[code];
    super(options.message ?? message);
    this.status = options.status ?? status;
    this.headers = options.headers ?? {};
    this.items = items ?? [
      { code, message: this.message, ...(options.detail === undefined ? {} : { detail: options.detail }) },
    ];
  }

  body(): { errors: readonly ErrorItem[] } {
    return { errors: this.items };
  }
}
