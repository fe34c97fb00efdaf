/**
 * The other machines: the share or the registry that an image comes from, reached and logged in to as a mount would
 * do it, and the clock against the registry's.
 */

import { lookup } from 'node:dns/promises';
import { mkdtemp, rm } from 'node:fs/promises';
import { isIP } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { counted } from '../counted.js';
import { OrcaError } from '../errors.js';
import { INDEX_PATH, listImages, MAX_INDEX_BYTES } from '../image/catalog.js';
import type { ImageRequest } from '../mount/open-image.js';
import { choiceOf } from '../mount/source-choice.js';
import { headerOf } from '../oci/http-client.js';
import { parseReference, withDefaultTag } from '../oci/reference.js';
import { RegistryClient } from '../oci/registry-client.js';
import { openSource } from '../source/open-source.js';
import { openRegistryImage, type ReadyImage } from '../source/registry-image.js';
import { loadImage } from '../source/remote-image.js';
import type { Source } from '../source/source.js';
import type { Logger } from '../telemetry/logger.js';
import { type Finding, ok, problem, warning } from './finding.js';

const PATIENCE_MS = 20_000;
/** Tokens are good for five minutes; certificates and signed links are not that exact. */
const CLOCK_MS = 30_000;
/** An API root answers with `{}`. */
const MAX_PING_BYTES = 64 << 10;

/** What to do, by the code of an OrcaError; the message itself says the rest. */
const REMEDIES: Readonly<Record<string, string>> = {
  UNREACHABLE: 'look for a firewall in between (SMB is TCP 445)',
  TIMEOUT: 'look for a firewall in between (SMB is TCP 445)',
  BAD_CREDENTIALS: 'check --credentials, ORCA_SMB_USER and ORCA_SMB_PASSWORD; for registries: docker login',
  LOGON_FAILURE: 'check --credentials, or ORCA_SMB_USER and ORCA_SMB_PASSWORD',
  GUEST_REFUSED: 'give --credentials, or ORCA_SMB_USER and ORCA_SMB_PASSWORD',
  ACCESS_DENIED: 'give this user the right to read there',
  UNAUTHORIZED: 'docker login',
  DENIED: 'docker login with a user that may pull it',
  CERTIFICATE: 'give --registry-ca, or put the CA into /etc/docker/certs.d',
  SHARE_NOT_FOUND: 'check the name of the share',
  NOT_FOUND: 'check the name; orca expand puts images into a store',
  MANIFEST_UNKNOWN: 'check the name and the tag',
  NAME_UNKNOWN: 'check the name',
  INVALID_STORE: 'check the path of the store',
};

/** `--store`, and the image in it if one is named. */
export async function checkStore({ store, credentials, image }: StoreRequest): Promise<Finding[]> {
  const findings: Finding[] = [];
  const warnings: string[] = [];
  let source: Source | undefined;
  try {
    const options = credentials === undefined ? {} : { credentialsFile: credentials };
    source = await openSource(store, { ...options, logger: collecting(warnings) });
    const { location, kind } = source;
    if (kind !== 'file') findings.push(await checkName(new URL(location).hostname));
    const index = await source.readFile(INDEX_PATH, MAX_INDEX_BYTES, AbortSignal.timeout(PATIENCE_MS));
    const login = kind === 'smb' ? 'negotiated, logged in, share opened; ' : '';
    findings.push(ok('store', `${location}: ${login}${counted(listImages(index).length, 'image')}`));
    if (image !== undefined) findings.push(await checkImage(source, image));
  } catch (error) {
    findings.push(failure('store', error));
  } finally {
    await source?.close();
  }
  findings.push(...warnings.map((text) => warning('credentials', text, 'chmod 600 it')));
  return findings;
}

interface StoreRequest {
  store: string;
  credentials?: string | undefined;
  image?: string | undefined;
}

async function checkImage(source: Source, image: string): Promise<Finding> {
  try {
    const found = await inTemporaryDirectory((directory) =>
      loadImage(source, image, directory, AbortSignal.timeout(PATIENCE_MS)),
    );
    return ok('image', `${found.name}, ${counted(found.devices.length, 'layer')}`);
  } catch (error) {
    return failure('image', error);
  }
}

/** The registry of an image: name, API, token, manifest, and what a mount would read from. */
export async function checkRegistry(request: ImageRequest): Promise<Finding[]> {
  const findings: Finding[] = [];
  const client = new RegistryClient({ ...request.registry });
  try {
    const reference = withDefaultTag(parseReference(request.image));
    const { domain } = reference;
    const repository = client.repository(reference);
    const api = domain === 'docker.io' ? 'registry-1.docker.io' : domain;
    findings.push(await checkName(new URL(`https://${api}`).hostname));
    const signal = AbortSignal.timeout(PATIENCE_MS);
    const { headers } = await repository.ask(
      { path: '/v2/', what: domain, accept: [200, 401], signal },
      MAX_PING_BYTES,
    );
    findings.push(ok('registry', `${domain} answers`), checkClock(headerOf(headers, 'date'), Date.now()));
    const { digest } = await repository.resolve(reference.digest ?? reference.tag ?? '', signal);
    findings.push(ok('image', `${request.image} is ${digest}: credentials are good for it`));
    findings.push(...(await checkTransports(client, request)));
  } catch (error) {
    findings.push(failure(findings.some(({ name }) => name === 'registry') ? 'image' : 'registry', error));
  } finally {
    await client.close();
  }
  return findings;
}

async function checkTransports(client: RegistryClient, request: ImageRequest): Promise<Finding[]> {
  const { region, transports, platform } = request;
  return inTemporaryDirectory(async (cacheDir) => {
    const found = await openRegistryImage({
      client,
      reference: parseReference(request.image),
      cacheDir,
      pull: 'always',
      ...(region === undefined ? {} : { region }),
      ...(transports === undefined ? {} : { transports }),
      ...(platform === undefined ? {} : { platform }),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    const name = 'transport';
    if (found.state === 'expanding') return [ok(name, 'the registry is expanding the image: orca run waits')];
    if (found.state !== 'ready') {
      const text = 'the registry has not expanded the image: this host downloads and expands it';
      return [warning(name, text, 'enable the repository there, or expand it into a store (orca expand)')];
    }
    return await checkSources(found, request);
  });
}

async function checkSources(found: ReadyImage, request: ImageRequest): Promise<Finding[]> {
  const findings: Finding[] = [];
  const first = found.image.devices[0]?.diffID;
  for (const source of found.sources) {
    const name = `transport ${source.kind}`;
    try {
      if (first !== undefined) {
        const layer = await source.openLayer(first, AbortSignal.timeout(PATIENCE_MS));
        await layer.close();
      }
      findings.push(ok(name, `${source.location} serves it`));
    } catch (error) {
      const { text, remedy = '' } = failure(name, error);
      findings.push(warning(name, text, remedy));
    } finally {
      await source.close();
    }
  }
  for (const { kind, reason } of choiceOf(found, request).passedOver)
    findings.push(warning(`transport ${kind}`, reason, 'a slower one is used'));
  if (findings.some(({ state }) => state === 'ok')) return findings;
  return [
    ...findings,
    problem('transport', 'nothing serves the image', 'mend one of the above, or name the image by --store'),
  ];
}

/** `date`: of an answer that has just come; `now` in milliseconds since 1970. */
export function checkClock(date: string | undefined, now: number): Finding {
  const name = 'clock';
  const theirs = Date.parse(date ?? '');
  if (Number.isNaN(theirs)) return ok(name, 'not compared: the registry does not say the time');
  const difference = Math.abs(now - theirs);
  if (difference <= CLOCK_MS) return ok(name, 'agrees with the registry');
  const text = `${Math.round(difference / 1000)} s ${now > theirs ? 'ahead of' : 'behind'} the registry`;
  return warning(name, `${text}: tokens, signed links and certificates may be refused`, 'run chrony or ntpd');
}

async function checkName(hostname: string): Promise<Finding> {
  const host = hostname.replace(/^\[(.*)\]$/, '$1');
  const name = 'host name';
  if (isIP(host)) return ok(name, `${host} is an address`);
  try {
    return ok(name, `${host} is ${(await lookup(host)).address}`);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return problem(name, `${host} cannot be resolved (${code})`, 'check the name and /etc/resolv.conf');
  }
}

function failure(name: string, error: unknown): Finding {
  if (error instanceof OrcaError) return problem(name, error.message, REMEDIES[error.code] ?? 'see above');
  const { name: kind, message } = error as Error;
  if (kind === 'TimeoutError')
    return problem(name, `no answer within ${PATIENCE_MS / 1000} s`, REMEDIES['TIMEOUT'] ?? '');
  return problem(name, message, 'check path and permissions');
}

async function inTemporaryDirectory<T>(use: (directory: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), 'orca-doctor-'));
  try {
    return await use(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function collecting(warnings: string[]): Logger {
  const ignore = () => undefined;
  return { debug: ignore, info: ignore, warn: (text) => void warnings.push(text), error: ignore };
}
