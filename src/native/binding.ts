/**
 * What native/build/orca.node exports: the raw side of the door, whose callers have validated every argument.
 */

import { createRequire } from 'node:module';
import { packageFile } from '../installation.js';
import type { PutResult, SessionOptions, SessionStats } from './addon.js';
import type { InflateStep } from './inflate.js';

export interface NativeBlockFile {
  readonly blocks: number;
  readonly suspect: boolean;
  has(block: number): boolean;
  wasPresent(block: number): boolean;
  trust(block: number): void;
  count(): number;
  bytesOnDisk(): number;
  read(block: number): Promise<Uint8Array>;
  put(block: number, bytes: Uint8Array): Promise<void>;
  putRun(firstBlock: number, bytes: Uint8Array, digests: Uint8Array): Promise<PutResult>;
  watch(block: number): void;
  awaited(block: number): boolean;
  fail(block: number, errno: number): void;
  evict(firstBlock: number, count: number): void;
  close(): Promise<void>;
}

export interface NativeSession {
  stats(): SessionStats;
  /** Device, block and milliseconds of each; files are blocks of device 0. */
  touched(): Uint32Array;
  accesses(): { numbers: Uint32Array; paths: Uint8Array };
  preload(mountpoint: string, numbers: Uint32Array, paths: Uint8Array): void;
  /** Position and count of each step; step, device, first and count of each run of blocks. */
  locate(numbers: Uint32Array, paths: Uint8Array): Promise<{ steps: Uint32Array; blocks: Uint32Array }>;
  stopPreload(): void;
  filesRead(): Uint32Array;
  /** Only asks; onEnd tells when the threads have ended. */
  close(): void;
}

export interface NativeInflater {
  run(input: Uint8Array, output: Uint8Array, span: number): Promise<NativeInflateStep>;
}

export interface NativeInflateStep extends InflateStep {
  /** What is wrong with the data. */
  error?: string;
}

export interface Binding {
  mount(source: string, target: string, type: string, flags: number, data: string): void;
  umount(target: string, flags: number): void;
  mountFuse(target: string, source: string, allowOther: boolean, allowSuid: boolean): number;
  tryLock(fd: number, kind: string): boolean;
  socketPair(): [number, number];
  realTime(): bigint;
  openGcm(
    key: Uint8Array,
    nonce: Uint8Array,
    additional: Uint8Array,
    tag: Uint8Array,
    data: Uint8Array,
  ): boolean;
  blockFileInUse(mapPath: string): boolean;
  removeBlockFile(dataPath: string, mapPath: string): boolean;
  BlockFile: new (
    dataPath: string,
    mapPath: string,
    size: number,
    blockSize: number,
    onTouch: (block: number) => void,
  ) => NativeBlockFile;
  /** At the beginning of a gzip member, or within one: bits, the byte's high bits that they are, window. */
  Inflater: new (
    bits?: number,
    value?: number,
    window?: Uint8Array,
  ) => NativeInflater;
  Session: new (
    fd: number,
    indexPath: string,
    blockFiles: readonly NativeBlockFile[],
    threads: number,
    adopt: boolean,
    poll: number,
    splice: boolean,
    onMiss: SessionOptions['onMiss'],
    onEnd: SessionOptions['onEnd'],
    onLikely: SessionOptions['onLikely'],
  ) => NativeSession;
}

export const binding = createRequire(import.meta.url)(packageFile('native/build/orca.node')) as Binding;
