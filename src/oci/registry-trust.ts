/** Whom to trust as a registry: certificates of Docker's directory layout, and which registries need none. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isLoopback, type TlsTrust } from './http-client.js';
import { RegistryError } from './registry-error.js';

/** Docker's (docs: "Verify repository client with certificates"): a folder per `host[:port]`. */
export const CERTS_DIRECTORY = '/etc/docker/certs.d';
/** A bundle of all public CAs has 250 KiB. */
const MAX_PEM_BYTES = 4 << 20;

/**
 * Reads `DIRECTORY/HOST/*.crt` (CAs) and the first `*.cert` with its `*.key` (client certificate). Nothing there is
 * no error. Throws RegistryError INVALID_CONFIG for what is there and cannot be used.
 */
export async function hostCertificates(host: string, directory = CERTS_DIRECTORY): Promise<TlsTrust> {
  const folder = join(directory, host);
  const names = await readdir(folder).catch((): string[] => []);
  const ca = await Promise.all(
    names.filter((name) => name.endsWith('.crt')).map((name) => readPem(join(folder, name))),
  );
  const certName = names.filter((name) => name.endsWith('.cert')).sort()[0];
  if (certName === undefined) return { ca };
  const keyName = `${certName.slice(0, -'.cert'.length)}.key`;
  if (!names.includes(keyName)) {
    throw new RegistryError('INVALID_CONFIG', `${join(folder, certName)}: its key ${keyName} is missing`);
  }
  const [cert, key] = await Promise.all([readPem(join(folder, certName)), readPem(join(folder, keyName))]);
  return { ca, cert, key };
}

/** A PEM file. Throws RegistryError INVALID_CONFIG, which does not quote it. */
export async function readPem(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new RegistryError('INVALID_CONFIG', `${path}: the certificate file cannot be read (${error.code})`);
  });
  if (text.length > MAX_PEM_BYTES || !text.includes('-----BEGIN ')) {
    throw new RegistryError('INVALID_CONFIG', `${path}: not a PEM file`);
  }
  return text;
}

export interface TrustOptions {
  /** Registries (`host[:port]`) that may speak plain http or have any certificate; `*` is all of them. */
  insecure?: readonly string[];
  /** PEM file of CAs that are trusted for every host, beside certs.d. */
  caFile?: string;
  /** PEM files of CAs by registry (`host[:port]`), beside that. */
  caFiles?: Readonly<Record<string, string>>;
  /** Default /etc/docker/certs.d. */
  certsDirectory?: string;
}

/** True of a host (`name[:port]`) that may do without TLS: those of the list, and as with Docker all of loopback. */
export function isInsecure(host: string, { insecure = [] }: TrustOptions = {}): boolean {
  const { hostname } = new URL(`http://${host}`);
  return isLoopback(hostname) || insecure.includes('*') || insecure.includes(host);
}

/** What is trusted of a host. Throws RegistryError INVALID_CONFIG. */
export async function trustFor(host: string, options: TrustOptions = {}): Promise<TlsTrust> {
  const trust = await hostCertificates(host, options.certsDirectory);
  const own = options.caFiles && Object.hasOwn(options.caFiles, host) ? options.caFiles[host] : undefined;
  const files = [options.caFile, own].filter((file) => file !== undefined);
  const ca = [...(trust.ca ?? []), ...(await Promise.all(files.map(readPem)))];
  return { ...trust, ca, unverified: isInsecure(host, options) };
}
