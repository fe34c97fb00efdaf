/** The image configuration (OCI image specification, config.md; Docker's has the same fields and a few more). */
import { isDigest, printable } from './digest.js';
import { JsonObject } from './json-object.js';
import { MAX_LAYERS, MAX_MANIFEST_BYTES, type Platform } from './manifest.js';

/** How a container of the image is started; what the image leaves out is absent, and lists are empty. */
export interface ProcessConfig {
  /** `user`, `uid`, `user:group`, `uid:gid`, … */
  user?: string;
  /** `NAME=VALUE` each. */
  env: string[];
  entrypoint?: string[];
  cmd?: string[];
  workingDir?: string;
  /** Name or number, such as `SIGTERM`. */
  stopSignal?: string;
  /** Absolute paths. */
  volumes: string[];
  /** `80/tcp`, `53/udp`, `8000`. */
  exposedPorts: string[];
  labels: Record<string, string>;
  /** Docker's SHELL, of use only to builders. */
  shell?: string[];
}

export interface ImageConfig {
  platform: Platform;
  /** RFC 3339. */
  created?: string;
  author?: string;
  process: ProcessConfig;
  /** sha256 of each layer's uncompressed tar, lowest first. */
  diffIDs: string[];
}

/** Decodes an image configuration. Throws OciError INVALID_CONFIG or TOO_LARGE that names `what` and the field. */
export function parseImageConfig(bytes: Uint8Array, what = 'image config'): ImageConfig {
  const json = JsonObject.parse(bytes, MAX_MANIFEST_BYTES, 'INVALID_CONFIG', what);
  const rootfs = json.object('rootfs');
  if (rootfs === undefined) throw json.error('rootfs', 'is missing');
  const type = rootfs.string('type');
  if (type !== 'layers') throw rootfs.error('type', `must be "layers", is ${printable(String(type))}`);
  const diffIDs = rootfs.strings('diff_ids') ?? [];
  if (diffIDs.length > MAX_LAYERS) throw rootfs.error('diff_ids', `more than ${MAX_LAYERS}`);
  for (const [i, diffID] of diffIDs.entries()) {
    // A layer of a store is named by sha256 alone (FORMAT.md), and no builder writes diffIDs of another kind.
    if (!isDigest(diffID) || !diffID.startsWith('sha256:')) {
      throw rootfs.error(`diff_ids[${i}]`, `${printable(diffID)} is not a sha256 digest`);
    }
  }
  const variant = json.string('variant');
  const created = json.string('created');
  const author = json.string('author');
  return {
    platform: {
      os: json.requiredString('os'),
      architecture: json.requiredString('architecture'),
      ...(variant === undefined || variant === '' ? {} : { variant }),
    },
    ...(created === undefined ? {} : { created }),
    ...(author === undefined ? {} : { author }),
    process: decodeProcess(json.object('config')),
    diffIDs,
  };
}

function decodeProcess(json: JsonObject | undefined): ProcessConfig {
  const user = json?.string('User');
  const entrypoint = json?.strings('Entrypoint');
  const cmd = json?.strings('Cmd');
  const workingDir = json?.string('WorkingDir');
  const stopSignal = json?.string('StopSignal');
  const shell = json?.strings('Shell');
  return {
    ...(user ? { user } : {}),
    env: json?.strings('Env') ?? [],
    ...(entrypoint === undefined ? {} : { entrypoint }),
    ...(cmd === undefined ? {} : { cmd }),
    ...(workingDir ? { workingDir } : {}),
    ...(stopSignal ? { stopSignal } : {}),
    volumes: json?.keys('Volumes') ?? [],
    exposedPorts: json?.keys('ExposedPorts') ?? [],
    labels: json?.stringMap('Labels') ?? {},
    ...(shell === undefined ? {} : { shell }),
  };
}
