/** How a snapshot is written in its directory: `snapshot.json`, version 1. */
import { JsonObject } from '../oci/json-object.js';
import type { RemoteLayer, Snapshot, SnapshotKind, Usage } from './snapshot.js';
import { SnapshotError } from './snapshot-error.js';

const VERSION = 1;
/** What is larger is not written either. More than all labels that clients give a snapshot in practice. */
const MAX_RECORD_BYTES = 1 << 20;

/** Throws SnapshotError INVALID_ARGUMENT. */
export function encodeSnapshot(snapshot: Snapshot): Uint8Array {
  const { createdAt, updatedAt, ...rest } = snapshot;
  const times = { createdAt: createdAt.toString(), updatedAt: updatedAt.toString() };
  const bytes = Buffer.from(`${JSON.stringify({ version: VERSION, ...rest, ...times })}\n`);
  if (bytes.length > MAX_RECORD_BYTES) {
    throw new SnapshotError('INVALID_ARGUMENT', `the labels of a snapshot exceed ${MAX_RECORD_BYTES} bytes`);
  }
  return bytes;
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
