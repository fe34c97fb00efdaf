/**
 * The id of the request that is being answered: in every JSON record of the log, and in what is asked of others for its
 * sake, so that one id leads from a command through the daemon to the registry.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';

export const REQUEST_ID_HEADER = 'x-request-id';

/** What others may call their requests: nothing that could be anything else in a log, and not too long for one. */
const WELL_FORMED = /^[A-Za-z0-9][A-Za-z0-9._-]{7,63}$/;

const current = new AsyncLocalStorage<string>();
/** Requests that are being answered, of servers that say when they have been. */
const open = new Set<object>();
/** Whether there are others. */
let unbounded = false;

export function newRequestId(): string {
  return randomUUID();
}

/** The value of the header when it is well-formed, otherwise a new id. */
export function acceptRequestId(header: string | readonly string[] | undefined): string {
  return typeof header === 'string' && WELL_FORMED.test(header) ? header : newRequestId();
}

/** What `work` does, and whatever that leads to, is for the sake of this request. */
export function withRequestId<T>(id: string, work: () => T): T {
  unbounded = true;
  return current.run(id, work);
}

/**
 * The same until `endRequest(request)`. While no request is open nothing has an id, and promises cost less: before
 * Node 24 each one is followed by hooks that are written in JavaScript.
 */
export function beginRequest<T>(request: object, id: string, work: () => T): T {
  open.add(request);
  return current.run(id, work);
}

export function endRequest(request: object): void {
  if (open.delete(request) && open.size === 0 && !unbounded) current.disable();
}

export function requestId(): string | undefined {
  return current.getStore();
}
