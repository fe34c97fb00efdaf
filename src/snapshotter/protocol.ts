/** The messages of proto/snapshots.proto as grpc-js gives and takes them, and the service definition. */

import { loadPackageDefinition, type ServiceDefinition, type UntypedHandleCall } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { packageFile } from '../installation.js';
import type { SnapshotInfo, SnapshotKind } from './snapshot.js';
import { SnapshotError } from './snapshot-error.js';

export interface CreateRequest {
  key: string;
  parent: string;
  labels: Record<string, string>;
}

export interface KeyRequest {
  key: string;
}

export interface CommitRequest {
  name: string;
  key: string;
  labels: Record<string, string>;
  parent: string;
}

export interface UpdateRequest {
  info: InfoMessage | null;
  updateMask: { paths: string[] } | null;
}

export interface ListRequest {
  filters: string[];
}

export interface InfoMessage {
  name: string;
  parent: string;
  kind: 'UNKNOWN' | 'VIEW' | 'ACTIVE' | 'COMMITTED';
  createdAt: TimestampMessage | null;
  updatedAt: TimestampMessage | null;
  labels: Record<string, string>;
}

interface TimestampMessage {
  seconds: string;
  nanos: number;
}

const KINDS: Readonly<Record<SnapshotKind, InfoMessage['kind']>> = {
  view: 'VIEW',
  active: 'ACTIVE',
  committed: 'COMMITTED',
};

export function infoMessage(info: SnapshotInfo): InfoMessage {
  const { name, parent, kind, labels } = info;
  return {
    name,
    parent,
    kind: KINDS[kind],
    createdAt: timestamp(info.createdAt),
    updatedAt: timestamp(info.updatedAt),
    labels: { ...labels },
  };
}

function timestamp(nanoseconds: bigint): TimestampMessage {
  return { seconds: (nanoseconds / 1_000_000_000n).toString(), nanos: Number(nanoseconds % 1_000_000_000n) };
}

/** Throws SnapshotError INVALID_ARGUMENT when there is none. */
export function requiredInfo({ info }: UpdateRequest): InfoMessage {
  if (info === null) throw new SnapshotError('INVALID_ARGUMENT', 'the request has no info');
  return info;
}

/** The service containerd.services.snapshots.v1.Snapshots. */
export function snapshotsService(): ServiceDefinition<Record<string, UntypedHandleCall>> {
  const file = packageFile('proto/snapshots.proto');
  const loaded = loadPackageDefinition(
    loadSync(file, { longs: String, enums: String, defaults: true, arrays: true, objects: true }),
  );
  let found: unknown = loaded;
  for (const name of ['containerd', 'services', 'snapshots', 'v1', 'Snapshots']) {
    found = (found as Record<string, unknown>)[name];
  }
  return (found as { service: ServiceDefinition<Record<string, UntypedHandleCall>> }).service;
}
