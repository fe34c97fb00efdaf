/** Asking a registry for the expansion of images, and how far it is: the other side of routes/expansion.ts. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isDigest, printable } from '../../oci/digest.js';
import { JsonObject } from '../../oci/json-object.js';
import { isRepositoryPath, isTag } from '../../oci/reference.js';
import { RegistryClient, type RegistryClientOptions } from '../../oci/registry-client.js';
import type { Repository } from '../../oci/repository.js';
import { RegistryError } from '../registry-error.js';
import type { ExpansionState, ImageExpansion, LayerStatus } from './expansion.js';

/** Hundred thousand images. */
const MAX_ANSWER_BYTES = 16 << 20;
const POLL_MS = 500;
const STATES: readonly string[] = ['queued', 'expanding', 'expanded', 'failed'] satisfies ExpansionState[];

export interface RequestedImage {
  digest: string;
  tags: string[];
}

export interface ExpansionRequest {
  /** Of the registry. */
  url: string;
  repository: string;
  /** Tag or digest; all tagged images without one. */
  reference?: string;
  client?: RegistryClientOptions;
}

/** `REPOSITORY`, `REPOSITORY:TAG` or `REPOSITORY@DIGEST`. Throws RegistryError INVALID_OPTION. */
export function parseTarget(text: string): Pick<ExpansionRequest, 'repository' | 'reference'> {
  const [, repository = '', tag, digest] = /^([^:@]*)(?::([^@]*))?(?:@(.*))?$/.exec(text) ?? [];
  const isValid =
    isRepositoryPath(repository) &&
    (tag === undefined || isTag(tag)) &&
    (digest === undefined || isDigest(digest));
  if (!isValid) {
    const message = `${printable(text)}: write REPOSITORY[:TAG|@DIGEST], and the registry with --registry`;
    throw new RegistryError('INVALID_OPTION', message);
  }
  const reference = digest ?? tag;
  return { repository, ...(reference === undefined ? {} : { reference }) };
}

/** One conversation with the registry. Throws RegistryError and OciError. */
export class ExpansionClient {
  readonly #client: RegistryClient;
  readonly #repository: Repository;
  readonly #reference: string | undefined;

  constructor({ url, repository, reference, client = {} }: ExpansionRequest) {
    const parsed = URL.canParse(url) ? new URL(url) : undefined;
    if (!/^https?:$/.test(parsed?.protocol ?? '') || parsed?.pathname !== '/') {
      throw new RegistryError('INVALID_OPTION', `--registry ${printable(url)}: write https://HOST[:PORT]`);
    }
    const isPlain = parsed.protocol === 'http:';
    this.#client = new RegistryClient({
      ...client,
      ...(isPlain ? { insecure: [...(client.insecure ?? []), parsed.host] } : {}),
    });
    this.#repository = this.#client.repository({ domain: parsed.host, path: repository });
    this.#reference = reference;
  }

  async request(signal?: AbortSignal): Promise<RequestedImage[]> {
    const query = this.#reference === undefined ? '' : `?reference=${encodeURIComponent(this.#reference)}`;
    const what = `expansion of ${this.#repository.name}`;
    const path = `/orca/v1/${this.#repository.path}/_expand${query}`;
    const { bytes } = await this.#repository.ask(
      { method: 'POST', path, what, accept: [202], signal },
      MAX_ANSWER_BYTES,
    );
    const images = JsonObject.parse(bytes, MAX_ANSWER_BYTES, 'PROTOCOL', what).objects('images') ?? [];
    return images.map((image) => {
      const digest = image.requiredString('digest');
      if (!isDigest(digest)) throw image.error('digest', 'is not a digest');
      return { digest, tags: image.strings('tags') ?? [] };
    });
  }

  async status(
    digest: string,
    signal?: AbortSignal,
  ): Promise<Pick<ImageExpansion, 'state' | 'reason' | 'layers'>> {
    const what = `expansion of ${this.#repository.name}@${digest}`;
    const path = `/orca/v1/${this.#repository.path}/_expansion/${digest}`;
    const { bytes } = await this.#repository.ask({ path, what, signal }, MAX_ANSWER_BYTES);
    const json = JsonObject.parse(bytes, MAX_ANSWER_BYTES, 'PROTOCOL', what);
    const reason = json.string('reason');
    const layers = (json.objects('layers') ?? []).map((layer): LayerStatus => {
      const why = layer.string('reason');
      return {
        digest: layer.requiredString('digest'),
        status: stateOf(layer, 'status'),
        total: layer.size('total'),
        ...(layer.has('bytes') ? { bytes: layer.size('bytes') } : {}),
        ...(why === undefined ? {} : { reason: why }),
      };
    });
    return { state: stateOf(json, 'state'), layers, ...(reason === undefined ? {} : { reason }) };
  }

  /** Resolves when the image is expanded or has failed; tells of each look at it. */
  async settled(
    digest: string,
    onStatus: (layers: readonly LayerStatus[]) => void,
    signal?: AbortSignal,
  ): Promise<Pick<ImageExpansion, 'state' | 'reason'>> {
    for (;;) {
      const status = await this.status(digest, signal);
      onStatus(status.layers);
      if (status.state === 'expanded' || status.state === 'failed') return status;
      await sleep(POLL_MS, undefined, { signal });
    }
  }

  close(): Promise<void> {
    return this.#client.close();
  }
}

function stateOf(json: JsonObject, field: string): ExpansionState {
  const state = json.requiredString(field);
  if (!STATES.includes(state)) throw json.error(field, `${printable(state)} is no state of an expansion`);
  return state as ExpansionState;
}
