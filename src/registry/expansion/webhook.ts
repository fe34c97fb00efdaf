/**
 * Tells another server what has been expanded, or cannot be: each event is a file in `queue/webhook/` until the server
 * has taken it, so that it is sent at least once; its `id` says whether it has been seen before.
 */
import { createHash, createHmac } from 'node:crypto';
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { request } from 'undici';
import { Limit } from '../../limit.js';
import type { Descriptor } from '../../oci/manifest.js';
import { log } from '../../telemetry/logger.js';
import { type DataDirectory, readIfPresent } from '../data-directory.js';
import { RegistryError } from '../registry-error.js';
import { pauseAfter, reasonOf } from './failure.js';

export interface WebhookOptions {
  url: string;
  /** Key of the signature. */
  secret: string;
  /** Milliseconds that the server has for its answer. */
  timeout?: number;
}

export interface WebhookEvent {
  event: 'expanded' | 'failed';
  repository: string;
  /** Of the image manifest. */
  digest: string;
  tags: string[];
  artifact?: Descriptor;
  reason?: string;
}

/** A server that is away for so long has lost more than these. */
const MAX_AGE_MS = 3 * 24 * 3600_000;
/** Events of 1 KiB; when there are more, new ones are not sent. */
const MAX_EVENTS = 10_000;
const SENT_AT_ONCE = 4;
const TIMEOUT_MS = 10_000;
const MIN_SECRET_BYTES = 16;

export class Webhook {
  private readonly stop = new AbortController();
  private readonly limit = new Limit(SENT_AT_ONCE);
  /** Names of the files. */
  private readonly events = new Set<string>();
  private readonly sending = new Set<Promise<void>>();

  private constructor(
    private readonly data: DataDirectory,
    private readonly options: WebhookOptions,
  ) {}

  /** Goes on with what was not sent. Throws RegistryError INVALID_OPTION. */
  static async open(data: DataDirectory, options: WebhookOptions): Promise<Webhook> {
    const { url, secret } = options;
    const parsed = URL.canParse(url) ? new URL(url) : undefined;
    if (!/^https?:$/.test(parsed?.protocol ?? '') || parsed?.username !== '' || parsed.password !== '')
      throw new RegistryError('INVALID_OPTION', 'the webhook needs a http or https URL without a user');
    if (Buffer.byteLength(secret) < MIN_SECRET_BYTES) {
      const message = `the secret of the webhook has less than ${MIN_SECRET_BYTES} bytes`;
      throw new RegistryError('INVALID_OPTION', message);
    }
    const webhook = new Webhook(data, options);
    await mkdir(webhook.directory, { recursive: true });
    for (const name of await readdir(webhook.directory)) webhook.start(name);
    return webhook;
  }

  private get directory(): string {
    return this.data.join('queue', 'webhook');
  }

  /** The event will be sent, also after a restart. `time`, in milliseconds, and the event itself make its id. */
  async add(event: WebhookEvent, time: number): Promise<void> {
    const at = new Date(time).toISOString();
    const id = createHash('sha256').update(JSON.stringify([event.event, event.repository, event.digest, at]));
    const body = { id: id.digest('hex').slice(0, 32), time: new Date().toISOString(), ...event };
    const name = `${body.id}.json`;
    if (this.events.has(name)) return;
    if (this.events.size >= MAX_EVENTS) {
      log.error('too many events wait for the webhook: one is not sent', { ...event });
      return;
    }
    await this.data.write(join(this.directory, name), Buffer.from(JSON.stringify(body)));
    this.start(name);
  }

  private start(name: string): void {
    this.events.add(name);
    const sending = this.deliver(name)
      .catch((error: Error) => {
        if (!this.stop.signal.aborted) log.error('an event of the webhook is not sent', { error });
      })
      .finally(() => {
        this.events.delete(name);
        this.sending.delete(sending);
      });
    this.sending.add(sending);
  }

  private async deliver(name: string): Promise<void> {
    const path = join(this.directory, name);
    const body = await readIfPresent(path);
    if (body === undefined) return;
    const { time } = JSON.parse(body.toString()) as { time: string };
    for (let attempts = 1; ; attempts++) {
      const problem = await this.limit.run(() => this.send(body));
      if (problem === undefined) break;
      this.stop.signal.throwIfAborted();
      if (Date.now() - Date.parse(time) > MAX_AGE_MS) {
        log.error('an event of the webhook is given up', { event: name, reason: problem });
        break;
      }
      log.warn('the webhook did not take an event', { event: name, reason: problem, attempts });
      await sleep(pauseAfter(attempts), undefined, { signal: this.stop.signal });
    }
    await this.data.remove(path);
  }

  /** What went wrong; undefined when the server has taken it. Redirects are not followed. */
  private async send(body: Uint8Array): Promise<string | undefined> {
    const timestamp = `${Math.floor(Date.now() / 1000)}`;
    const timeout = AbortSignal.timeout(this.options.timeout ?? TIMEOUT_MS);
    try {
      this.stop.signal.throwIfAborted();
      const answer = await request(this.options.url, {
        method: 'POST',
        body,
        headers: {
          'content-type': 'application/json',
          'user-agent': 'orca-registry',
          'x-orca-timestamp': timestamp,
          'x-orca-signature': signatureOf(this.options.secret, timestamp, body),
        },
        signal: AbortSignal.any([timeout, this.stop.signal]),
      });
      await answer.body.dump({ limit: 64 << 10 });
      return answer.statusCode >= 200 && answer.statusCode < 300 ? undefined : `status ${answer.statusCode}`;
    } catch (error) {
      return reasonOf(error);
    }
  }

  /** What has not been sent stays on the disk. */
  async close(): Promise<void> {
    this.stop.abort();
    await Promise.all(this.sending);
  }
}

/** HMAC-SHA256 over the timestamp, a dot and the body. */
export function signatureOf(secret: string, timestamp: string, body: Uint8Array): string {
  return `sha256=${createHmac('sha256', secret).update(`${timestamp}.`).update(body).digest('hex')}`;
}
