/** A client of a registry that is killed again and again: it tries until it has what it wants, as real ones do. */
import { type IncomingHttpHeaders, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { digestOf } from '../../src/oci/digest.js';
import { MEDIA_TYPE } from '../../src/oci/manifest.js';
import type { Random } from '../image/random.js';
import type { SoakImage } from './registry-soak.js';

interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

/** The connection broke, so that nobody knows what became of the request. */
class Broken extends Error {}

const RETRY_MS = 100;

export class SoakClient {
  pulls = 0;
  resumed = 0;
  broken = 0;
  bytesPushed = 0;
  bytesPulled = 0;
  /** Answers that break a promise. */
  readonly faults: string[] = [];

  constructor(
    private readonly url: () => string,
    readonly random: Random,
    private readonly stopped: () => boolean,
  ) {}

  /** Resolves when the registry has acknowledged the image. Throws for an answer that no kill explains. */
  async push(image: SoakImage): Promise<void> {
    for (const { digest, bytes } of image.blobs) await this.pushBlob(image.repository, digest, bytes);
    const path = `/v2/${image.repository}/manifests/${image.tag}`;
    const answer = await this.untilAnswered(() =>
      this.send('PUT', path, image.manifest, MEDIA_TYPE.manifest),
    );
    if (answer.status !== 201) throw new Error(`PUT ${path}: ${answer.status} ${answer.body}`);
  }

  /** Everything of an image that has been acknowledged, verified. */
  async pull(image: SoakImage): Promise<void> {
    for (const reference of [image.tag, image.digest]) {
      const manifest = await this.get(`/v2/${image.repository}/manifests/${reference}`);
      this.expect(manifest, image.digest, `${image.repository}:${reference}`);
    }
    for (const { digest } of image.blobs)
      this.expect(await this.get(`/v2/${image.repository}/blobs/${digest}`), digest, image.repository);
    this.pulls++;
  }

  private async pushBlob(repository: string, digest: string, bytes: Uint8Array): Promise<void> {
    const head = await this.untilAnswered(() => this.send('HEAD', `/v2/${repository}/blobs/${digest}`));
    if (head.status === 200) return;
    await this.untilAnswered(async () => {
      const uploads = `/v2/${repository}/blobs/uploads/`;
      const isWhole = this.random.oneIn(3);
      const started = await this.send(
        'POST',
        isWhole ? `${uploads}?digest=${digest}` : uploads,
        isWhole ? bytes : undefined,
      );
      if (isWhole && started.status === 201) return started;
      if (isWhole || started.status !== 202)
        throw new Error(`POST ${uploads}: ${started.status} ${started.body}`);
      return this.upload(started.headers.location ?? '', digest, bytes);
    });
    this.bytesPushed += bytes.length;
  }

  /** In chunks; after a break, from where the registry says that it is. */
  private async upload(location: string, digest: string, bytes: Uint8Array): Promise<Answer> {
    for (let offset = 0; ; ) {
      try {
        if (offset < bytes.length) {
          const end = Math.min(bytes.length, offset + 1 + this.random.below(bytes.length));
          const patch = await this.send('PATCH', location, bytes.subarray(offset, end));
          if (patch.status !== 202) throw new Error(`PATCH ${location}: ${patch.status} ${patch.body}`);
          offset = end;
          continue;
        }
        const put = await this.send('PUT', `${location}?digest=${digest}`, new Uint8Array());
        if (put.status !== 201) throw new Error(`PUT ${location}: ${put.status} ${put.body}`);
        return put;
      } catch (error) {
        if (!(error instanceof Broken)) throw error;
        const status = await this.untilAnswered(() => this.send('GET', location));
        // The PUT may have been done, or the session not have reached the disk: begin anew.
        if (status.status !== 204) throw new Broken(`${location}: ${status.status}`);
        offset = Number(/^0-(\d+)$/.exec(status.headers.range ?? '')?.[1] ?? -1) + 1;
        // `0-0` is also said of an upload that has nothing.
        if (offset <= 1) throw new Broken('begin anew');
        this.resumed++;
      }
    }
  }

  private async get(path: string): Promise<Answer> {
    const answer = await this.untilAnswered(() => this.send('GET', path));
    this.bytesPulled += answer.body.length;
    return answer;
  }

  private expect({ status, body }: Answer, digest: string, what: string): void {
    if (status !== 200) this.faults.push(`${what} ${digest}: ${status}`);
    else if (digestOf(body) !== digest) this.faults.push(`${what} ${digest}: other content`);
  }

  private async untilAnswered(ask: () => Promise<Answer>): Promise<Answer> {
    for (;;) {
      try {
        return await ask();
      } catch (error) {
        if (!(error instanceof Broken) || this.stopped()) throw error;
        this.broken++;
        await sleep(this.random.below(RETRY_MS));
      }
    }
  }

  private send(
    method: string,
    path: string,
    body?: Uint8Array,
    type = 'application/octet-stream',
  ): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const broken = (error: Error) => reject(new Broken(`${method} ${path}: ${error.message}`));
      const headers = body === undefined ? {} : { 'content-type': type, 'content-length': body.length };
      const sent = request(new URL(path, this.url()), { method, headers, agent: false }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', broken);
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(chunks),
          }),
        );
      });
      sent.on('error', broken);
      sent.end(body);
    });
  }
}
