/**
 * The Debian tools that tests and benchmarks use. `ensureTools()` installs those that are missing when it runs as
 * root, and says in one line what to install otherwise.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Debian package by a program or file that shows it is installed. */
const packages = {
  smbd: 'samba',
  smbclient: 'smbclient',
  '/usr/share/doc/libnss-wrapper/copyright': 'libnss-wrapper',
  runc: 'runc',
  umoci: 'umoci',
  skopeo: 'skopeo',
  'docker-registry': 'docker-registry',
  buildah: 'buildah',
  ctr: 'containerd',
  'ctr-remote': 'stargz-snapshotter',
  curl: 'curl',
  openssl: 'openssl',
  'mkfs.erofs': 'erofs-utils',
  chromium: 'chromium',
  'qemu-img': 'qemu-utils',
  getfattr: 'attr',
  setcap: 'libcap2-bin',
  fusermount3: 'fuse3',
  mmdebstrap: 'mmdebstrap',
  busybox: 'busybox-static',
  zstd: 'zstd',
  bsdtar: 'libarchive-tools',
  python3: 'python3',
  gdb: 'gdb',
  zsh: 'zsh',
  fish: 'fish',
  mandoc: 'mandoc',
  'systemd-analyze': 'systemd',
  strip: 'binutils',
  ip: 'iproute2',
  '/usr/share/keyrings/debian-archive-keyring.gpg': 'debian-archive-keyring',
};

/** Packages that are missing, of the list above or of `wanted` (package by program or file). */
export function missingPackages(wanted = packages) {
  const path = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  const installed = (name) =>
    (name.startsWith('/') ? [name] : path.map((directory) => join(directory, name))).some(existsSync);
  return Object.keys(wanted)
    .filter((name) => !installed(name))
    .map((name) => wanted[name]);
}

/** Throws an Error of one line when something is missing and cannot be installed. */
export function ensureTools(wanted = packages) {
  const missing = missingPackages(wanted);
  if (missing.length === 0) return;
  const command = `apt-get install ${missing.join(' ')}`;
  if (process.getuid() !== 0) throw new Error(`tools are missing; run: sudo ${command}`);
  console.log(`# installing ${missing.join(' ')}`);
  aptGet('-qq', 'update');
  aptGet('-qq', '--yes', '--no-install-recommends', 'install', ...missing);
  const still = missingPackages(wanted);
  if (still.length > 0) throw new Error(`${still.join(', ')} could not be installed; try: ${command}`);
}

function aptGet(...args) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const options = ['-o', 'DPkg::Lock::Timeout=300', '-o', 'Acquire::Retries=3'];
  const { status, error, stdout, stderr } = spawnSync('apt-get', [...options, ...args], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
  });
  if (error !== undefined) throw new Error(`apt-get cannot run: ${error.message}`);
  // A repository that does not answer fails the update, though the packages may be there all the same.
  if (status !== 0) console.error(`# apt-get ${args.join(' ')} ended with ${status}\n${stdout}${stderr}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    ensureTools();
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
}
