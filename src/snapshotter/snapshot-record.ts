/** How a snapshot is written in its directory: `snapshot.json`, version 1. */
import { JsonObject } from '../oci/json-object.js';
import type { RemoteLayer, Snapshot, SnapshotKind, Usage } from './snapshot.js';

const VERSION = 1;
/** More than all labels of a snapshot that containerd accepts in practice. */
const MAX_RECORD_BYTES = 1 << 20;

export function encodeSnapshot(snapshot: Snapshot): Uint8Array {
  const { createdAt, updatedAt, ...rest } = snapshot;
  const times = { createdAt: createdAt.toString(), updatedAt: updatedAt.toString() };
  return Buffer.from(`${JSON.stringify({ version: VERSION, ...rest, ...times })}\n`);
}

/** Throws OciError CORRUPT; `what` names the file. */
export function decodeSnapshot(bytes: Uint8Array, what: string): Snapshot {
  const json = JsonObject.parse(bytes, MAX_RECORD_BYTES, 'CORRUPT', what);
  if (json.size('version') !== VERSION) throw json.error('version', 'is not one that this orca knows');
  const usage = json.object('usage');
  const remote = json.object('remote');
  return {
    id: json.size('id'),
    name: json.requiredString('name'),
    parent: json.string('parent') ?? '',
    kind: decodeKind(json),
    createdAt: decodeTime(json, 'createdAt'),
    updatedAt: decodeTime(json, 'updatedAt'),
    labels: json.stringMap('labels') ?? {},
    usage: usage && decodeUsage(usage),
    remote: remote && decodeRemote(remote),
  };
}

function decodeKind(json: JsonObject): SnapshotKind {
  const kind = json.requiredString('kind');
  if (kind === 'view' || kind === 'active' || kind === 'committed') return kind;
  throw json.error('kind', 'must be view, active or committed');
}

function decodeTime(json: JsonObject, key: string): bigint {
  const text = json.requiredString(key);
  if (!/^[0-9]{1,19}$/.test(text)) throw json.error(key, 'is not a time in nanoseconds');
  return BigInt(text);
}

function decodeUsage(json: JsonObject): Usage {
  return { size: json.size('size'), inodes: json.size('inodes') };
}

function decodeRemote(json: JsonObject): RemoteLayer {
  return {
    reference: json.requiredString('reference'),
    manifestDigest: json.requiredString('manifestDigest'),
    layers: json.size('layers'),
  };
}
