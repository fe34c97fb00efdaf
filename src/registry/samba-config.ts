/**
 * The configuration of an smbd that serves the shares of a registry, and the script that starts it. Every share is the
 * home directory of its account: `[homes]` gives it to that account alone, and needs no change when repositories come
 * and go (share-accounts.ts).
 */
import { chmod, mkdir, stat } from 'node:fs/promises';
import { isIP } from 'node:net';
import { join, resolve } from 'node:path';
import { writeDurably } from '../oci/durable-file.js';
import { readIfPresent } from './data-directory.js';
import { RegistryError } from './registry-error.js';
import { OWNER, PLAIN_PATH, ShareAccounts } from './share-accounts.js';

export interface SambaOptions {
  /** The data directory of the registry. */
  data: string;
  /** Where the configuration goes; default `samba/smb.conf` in the data directory. */
  output?: string;
  /** Default 445. */
  port?: number;
  /** Addresses to listen on; default all. */
  addresses?: readonly string[];
}

export interface SambaFiles {
  config: string;
  /** The script that starts smbd. */
  start: string;
}

const SMB_PORT = 445;
/** Of smbd, below `samba/`; `private` is for root alone, which smbd insists on. */
const FOLDERS = ['private', 'lock', 'state', 'cache', 'pid', 'rpc', 'log'];
/** Writes what smbd needs. Throws RegistryError INVALID_OPTION or INVALID_DATA. */
export async function writeSambaConfig(options: SambaOptions): Promise<SambaFiles> {
  const data = await registryDirectory(options.data);
  const accounts = new ShareAccounts(data);
  const config = resolve(options.output ?? join(accounts.directory, 'smb.conf'));
  for (const path of [data, config]) {
    if (!PLAIN_PATH.test(path))
      throw new RegistryError('INVALID_OPTION', `${path}: smb.conf cannot name this path`);
  }
  for (const folder of FOLDERS)
    await mkdir(join(accounts.directory, folder), { recursive: true, mode: 0o700 });
  // smbd wants others to find the sockets, of which it makes none.
  await chmod(join(accounts.directory, 'rpc'), 0o755);
  await accounts.rewrite();
  const { uid } = await stat(data);
  await writeDurably(config, Buffer.from(sambaConfig(options, accounts.directory, uid)));
  const start = join(accounts.directory, 'start');
  await writeDurably(start, Buffer.from(startScript(accounts.directory, config)));
  await chmod(start, 0o755);
  return { config, start };
}

/** New passwords for the share of a repository, or for all; gives the repositories. */
export async function rotatePasswords(data: string, repository?: string): Promise<string[]> {
  const rotated = await new ShareAccounts(await registryDirectory(data)).rotate(repository);
  if (repository === undefined || rotated.length > 0) return rotated;
  throw new RegistryError('INVALID_OPTION', `${repository} has no share that anybody has asked for`);
}

async function registryDirectory(data: string): Promise<string> {
  const path = resolve(data);
  if ((await readIfPresent(join(path, 'orca-registry.json'))) !== undefined) return path;
  throw new RegistryError(
    'INVALID_DATA',
    `${path}: not the data directory of a registry; start orca registry on it first`,
  );
}

function sambaConfig(options: SambaOptions, directory: string, owner: number): string {
  const sub = (name: string) => join(directory, name);
  const global: Record<string, string> = {
    'server role': 'standalone server',
    workgroup: 'ORCA',
    'netbios name': 'ORCA-REGISTRY',
    'disable netbios': 'yes',
    'smb ports': `${options.port ?? SMB_PORT}`,
    ...listening(options.addresses ?? []),
    'passdb backend': `smbpasswd:${sub('smbpasswd')}`,
    'private dir': sub('private'),
    'lock directory': sub('lock'),
    'state directory': sub('state'),
    'cache directory': sub('cache'),
    'pid directory': sub('pid'),
    'ncalrpc dir': sub('rpc'),
    'log file': sub('log/log.smbd'),
    'max log size': '10000',
    // SMB 3.1.1 with encryption, for known accounts.
    'server min protocol': 'SMB3_11',
    'server smb encrypt': 'required',
    'server signing': 'mandatory',
    'ntlm auth': 'ntlmv2-only',
    'map to guest': 'never',
    'guest account': 'nobody',
    'restrict anonymous': '2',
    // Nothing but files: no printers, no remote calls, no lists of shares.
    'load printers': 'no',
    printing: 'bsd',
    'printcap name': '/dev/null',
    'disable spoolss': 'yes',
    'rpc start on demand helpers': 'no',
    'usershare max shares': '0',
    // Names are what they are on the disk, so smbd need not look for other spellings.
    'case sensitive': 'yes',
    'mangled names': 'no',
  };
  const homes: Record<string, string> = {
    comment: 'One repository, for its own account',
    'valid users': '%S',
    'read only': 'yes',
    'guest ok': 'no',
    browseable: 'no',
    // Files are read as their owner, so that the accounts need no rights on the disk.
    'force user': owner === 0 ? 'root' : OWNER,
    'follow symlinks': 'no',
    'wide links': 'no',
    // Attributes that layers do not have are not looked for.
    'ea support': 'no',
    'store dos attributes': 'no',
    'map archive': 'no',
    'map readonly': 'no',
  };
  return [
    '# Written by orca registry samba; written anew by the next one.',
    ...section('global', global),
    ...section('homes', homes),
    '',
  ].join('\n');
}

function section(name: string, values: Readonly<Record<string, string>>): string[] {
  return ['', `[${name}]`, ...Object.entries(values).map(([key, value]) => `  ${key} = ${value}`)];
}

function listening(addresses: readonly string[]): Record<string, string> {
  if (addresses.length === 0) return {};
  for (const address of addresses) {
    if (isIP(address) === 0) throw new RegistryError('INVALID_OPTION', `${address}: not an IP address`);
  }
  return { interfaces: addresses.join(' '), 'bind interfaces only': 'yes' };
}

function startScript(directory: string, config: string): string {
  return `#!/bin/sh
# Starts smbd for the shares of this registry, in the foreground. nss_wrapper (Debian: libnss-wrapper) gives it the
# accounts of passwd and group beside this file, and no other; nothing of the machine's accounts or Samba is used.
exec env LD_PRELOAD=libnss_wrapper.so NSS_WRAPPER_PASSWD=${directory}/passwd NSS_WRAPPER_GROUP=${directory}/group \\
  \${SMBD:-smbd} --daemon --foreground --no-process-group -s ${config} "$@"
`;
}
