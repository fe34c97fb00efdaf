/**
 * Authorization with one registry: answers Basic and Bearer challenges and keeps tokens until shortly before they
 * expire (distribution, docs/spec/auth/token.md and oauth.md).
 *
 * Credentials are looked up by the registry's own name and given to whom the registry names as its token service.
 * That is no loss: the registry could have asked for them itself, by Basic. But a realm may not lead away from TLS
 * or into the host's own network.
 */
import { LRUCache } from 'lru-cache';
import { type Challenge, parseChallenges } from './challenge.js';
import type { RegistryCredentials } from './credentials.js';
import { type HttpClient, type HttpHeaders, isInternalAddress } from './http-client.js';
import { JsonObject } from './json-object.js';
import { isRetryableStatus, RegistryError, responseError, shownUrl } from './registry-error.js';

/** Lifetime of a token whose answer names none (token.md, "expires_in"). */
const DEFAULT_LIFETIME_S = 60;
const MAX_LIFETIME_S = 24 * 3600;
/** A token is renewed this long before it expires, or after three quarters of a short life. */
const MARGIN_MS = 30_000;
/** Answers of token services: two tokens of a few KiB. */
const MAX_TOKEN_ANSWER = 256 << 10;
const MAX_TOKENS = 1000;
/** Of a challenge; ours has fewer than 300 characters. */
const MAX_SCOPE = 1024;
const CLIENT_ID = 'orca';

type Scheme = { kind: 'basic' } | { kind: 'bearer'; realm: URL; service: string | undefined };

interface Token {
  header: string;
  /** Milliseconds since 1970: a clock that goes on while the machine sleeps. */
  usableUntil: number;
}

export interface RegistryAuthOptions {
  http: HttpClient;
  /** Where the registry is reached, its scheme as it is used. */
  url: URL;
  /** Allow realms without TLS although the registry has it. */
  insecure?: boolean;
  /** Asked for the credentials of a repository whenever a token is needed. */
  credentials: (repository: string) => Promise<RegistryCredentials | undefined>;
  /** For messages: what a user logs in to. */
  name: string;
}

export class RegistryAuth {
  readonly #options: RegistryAuthOptions;
  #scheme: Scheme | undefined;
  /** Authorization headers by repository path, as are the maps below. */
  readonly #tokens = new LRUCache<string, Token>({ max: MAX_TOKENS });
  readonly #pending = new Map<string, Promise<Token | undefined>>();
  /** What a challenge has asked for beside our own scope. */
  readonly #wider = new LRUCache<string, string>({ max: MAX_TOKENS });

  constructor(options: RegistryAuthOptions) {
    this.#options = options;
  }

  /** The Authorization header for a request, once a challenge has told how; otherwise undefined. */
  async header(repository: string, signal?: AbortSignal): Promise<string | undefined> {
    if (this.#scheme === undefined) return undefined;
    const kept = this.#tokens.get(repository);
    if (kept !== undefined && kept.usableUntil > Date.now()) return kept.header;
    return (await this.#obtain(repository, signal))?.header;
  }

  /**
   * The header to try next after a refusal (401, or 403 where `used` was sent, since some registries answer an
   * expired token with it). undefined when there is nothing better than `used`. Throws RegistryError.
   */
  async renew(
    repository: string,
    headers: HttpHeaders,
    used: string | undefined,
    signal?: AbortSignal,
  ): Promise<string | undefined> {
    const chosen = this.#choose(parseChallenges(headers['www-authenticate']));
    if (chosen !== undefined) this.#scheme = chosen.scheme;
    if (this.#scheme === undefined) return undefined;
    const widened = this.#widen(repository, chosen?.challenge.parameters.get('scope') ?? '');
    const kept = this.#tokens.get(repository);
    // Somebody else has renewed it while our request was under way.
    if (!widened && kept !== undefined && kept.header !== used) return kept.header;
    this.#tokens.delete(repository);
    const token = await this.#obtain(repository, signal);
    return token?.header === used ? undefined : token?.header;
  }

  /** Bearer where it is offered, since its tokens are worth less than a password. */
  #choose(challenges: readonly Challenge[]): { challenge: Challenge; scheme: Scheme } | undefined {
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
    if (bearer?.parameters.has('realm')) {
      const realm = this.#checkRealm(bearer.parameters.get('realm') ?? '');
      return {
        challenge: bearer,
        scheme: { kind: 'bearer', realm, service: bearer.parameters.get('service') },
      };
    }
    const basic = challenges.find(({ scheme }) => scheme === 'basic');
    return basic && { challenge: basic, scheme: { kind: 'basic' } };
  }

  #checkRealm(text: string): URL {
    const { url, insecure, name } = this.#options;
    const refused = (why: string) =>
      new RegistryError('HOSTILE_REALM', `registry ${name} sends us for a token to ${why}, which is refused`);
    if (!URL.canParse(text)) throw refused('what is not a URL');
    const realm = new URL(text);
    realm.username = '';
    realm.password = '';
    if (realm.protocol !== 'https:' && realm.protocol !== 'http:')
      throw refused(`the scheme ${realm.protocol}`);
    if (realm.protocol === 'http:' && url.protocol === 'https:' && insecure !== true) {
      throw refused(`${realm.host} without TLS`);
    }
    if (isInternalAddress(realm.hostname) && !isInternalAddress(url.hostname)) {
      throw refused(`the internal address ${realm.host}`);
    }
    return realm;
  }

  /** Remembers a scope that the registry wants beside ours, one only. True when it is new. */
  #widen(repository: string, asked: string): boolean {
    if (asked === '' || asked.length > MAX_SCOPE || asked === pullScope(repository)) return false;
    if (this.#wider.get(repository) === asked) return false;
    this.#wider.set(repository, asked);
    return true;
  }

  /** One request at a time for each repository, whose answer all share. */
  async #obtain(repository: string, signal: AbortSignal | undefined): Promise<Token | undefined> {
    let pending = this.#pending.get(repository);
    if (pending === undefined) {
      // Not with this caller's signal: others may wait for the same token. Timeouts bound it.
      pending = this.#fetch(repository).finally(() => this.#pending.delete(repository));
      this.#pending.set(repository, pending);
    }
    if (signal === undefined) return pending;
    signal.throwIfAborted();
    return Promise.race([
      pending,
      new Promise<never>((_, reject) => {
        const stop = () => reject(signal.reason);
        signal.addEventListener('abort', stop, { once: true });
        pending.finally(() => signal.removeEventListener('abort', stop)).catch(() => undefined);
      }),
    ]);
  }

  async #fetch(repository: string): Promise<Token | undefined> {
    const scheme = this.#scheme;
    const credentials = await this.#options.credentials(repository);
    let token: Token | undefined;
    if (scheme?.kind === 'basic') {
      token = lasting(credentials?.basic);
    } else if (credentials?.registryToken !== undefined) {
      token = lasting(`Bearer ${credentials.registryToken}`);
    } else if (scheme !== undefined) {
      const wider = this.#wider.get(repository);
      const scopes = [pullScope(repository), ...(wider === undefined ? [] : [wider])];
      token = await this.#requestToken(scheme, scopes, credentials);
    }
    if (token !== undefined) this.#tokens.set(repository, token);
    return token;
  }

  async #requestToken(
    { realm, service }: Extract<Scheme, { kind: 'bearer' }>,
    scopes: readonly string[],
    credentials: RegistryCredentials | undefined,
  ): Promise<Token> {
    const { http, name } = this.#options;
    const identityToken = credentials?.identityToken;
    const asked = Date.now();
    let response: Awaited<ReturnType<HttpClient['send']>>;
    if (identityToken === undefined) {
      const url = new URL(realm);
      if (service !== undefined) url.searchParams.set('service', service);
      for (const scope of scopes) url.searchParams.append('scope', scope);
      if (credentials?.username) url.searchParams.set('account', credentials.username);
      response = await http.send({ url, authorization: credentials?.basic });
    } else {
      const form = new URLSearchParams({ grant_type: 'refresh_token', client_id: CLIENT_ID });
      form.set('refresh_token', identityToken);
      if (service !== undefined) form.set('service', service);
      form.set('scope', scopes.join(' '));
      const headers = { 'content-type': 'application/x-www-form-urlencoded' };
      response = await http.send({ method: 'POST', url: realm, headers, body: form.toString() });
    }
    const what = `token for ${name}`;
    if (response.status !== 200) {
      const body = await response.body.readSome(MAX_TOKEN_ANSWER);
      throw this.#tokenRefused(response.status, response.headers, body, realm, credentials !== undefined);
    }
    return decodeToken(await response.body.read(MAX_TOKEN_ANSWER), `${what} from ${shownUrl(realm)}`, asked);
  }

  #tokenRefused(
    status: number,
    headers: HttpHeaders,
    body: Uint8Array,
    realm: URL,
    hasCredentials: boolean,
  ): RegistryError {
    const { name } = this.#options;
    if (!isRetryableStatus(status) && hasCredentials && status >= 400) {
      return new RegistryError(
        'BAD_CREDENTIALS',
        `the stored credentials for ${name} are refused by ${shownUrl(realm)} (${status}); log in again with docker login ${name}`,
        { status },
      );
    }
    // A body is not quoted where it could repeat the credentials that were sent.
    const quoted = hasCredentials ? new Uint8Array() : body;
    return responseError({ status, headers }, quoted, { what: `token for ${name}`, host: name });
  }
}

/** token.md, "Requesting a Token": the least that reading needs. */
function pullScope(repository: string): string {
  return `repository:${repository}:pull`;
}

/** A header that is good until it is refused. */
function lasting(header: string | undefined): Token | undefined {
  return header === undefined ? undefined : { header, usableUntil: Number.POSITIVE_INFINITY };
}

function decodeToken(bytes: Uint8Array, what: string, asked: number): Token {
  let token: string | undefined;
  let lifetime = DEFAULT_LIFETIME_S;
  try {
    const json = JsonObject.parse(bytes, MAX_TOKEN_ANSWER, 'PROTOCOL', what);
    token = json.string('token') || json.string('access_token');
    if (json.has('expires_in')) lifetime = Math.min(MAX_LIFETIME_S, json.size('expires_in'));
  } catch {
    throw new RegistryError('PROTOCOL', `${what}: the answer is malformed`);
  }
  // What would end the header and begin another is no token (RFC 6750 §2.1).
  if (token === undefined || !/^[\x21-\x7e]+$/.test(token)) {
    throw new RegistryError('PROTOCOL', `${what}: the answer has no usable token`);
  }
  const ms = Math.max(lifetime, 1) * 1000;
  return { header: `Bearer ${token}`, usableUntil: asked + ms - Math.min(MARGIN_MS, ms / 4) };
}
