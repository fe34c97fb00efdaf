/**
 * Random layers as tars: everything that a layer can hold, with names that meet those of other layers. The layers of
 * a seed are always the same.
 */
import { Random } from '../image/random.js';
import { archive, gnuSparse, member, pax } from '../tar/archive.js';

const NAMES = [
  'a',
  'b',
  'c',
  'd',
  'lib',
  'etc',
  'with space',
  'new\nline',
  'back\\slash',
  'eq=uals',
  Buffer.from('ümlaut').toString('latin1'),
  '\xff\xfe not utf-8 \x80',
  'long'.padEnd(255, 'g'),
  `${'\xff'.repeat(255)}`,
];
const SIZES = [0, 1, 511, 512, 4095, 4096, 4097, 131_071, 131_072, 131_073, 300_000];
const SMALL_SIZES = [0, 1, 100, 4097];
const IDS = [0, 1, 1000, 65_534, 70_000, 2_097_152, 4_294_967_294];
/** vfs_cap_data of version 2: cap_net_bind_service, effective (linux/capability.h). */
const CAPABILITY = Buffer.from('0100000200040000000000000000000000000000', 'hex');

export interface LayerOptions {
  /** Entries of one directory that is full beside the random ones. */
  crowd?: number;
}

/** One layer's uncompressed tar. */
export function randomLayer(random: Random, { crowd = 0 }: LayerOptions = {}): Buffer {
  const layer = new RandomLayer(random);
  layer.directory('.');
  layer.fill('.', 4);
  if (crowd > 0) {
    layer.directory('crowd');
    for (let i = 0; i < crowd; i++)
      layer.leaf(`crowd/entry-${i}-${'x'.repeat(random.below(60))}`, SMALL_SIZES);
  }
  return archive(...layer.members);
}

class RandomLayer {
  readonly members: Uint8Array[] = [];
  private readonly files: string[] = [];
  private readonly contents: Buffer[] = [];

  constructor(private readonly random: Random) {}

  /** Fills a directory with entries, whiteouts and, `depth` levels down, directories. */
  fill(path: string, depth: number): void {
    const { random } = this;
    const names = new Set(Array.from({ length: 2 + random.below(7) }, () => random.pick(NAMES)));
    for (const name of names) {
      const child = `${path}/${name}`;
      if (random.oneIn(7) && name.length < 250) this.mark(path, `.wh.${name}`);
      else if (depth > 0 && random.oneIn(2)) {
        this.directory(child);
        if (random.oneIn(6)) this.mark(child, '.wh..wh..opq');
        this.fill(child, depth - 1);
      } else this.leaf(child);
    }
  }

  private mark(path: string, name: string): void {
    this.members.push(pax([['path', `${path}/${name}`]]), member({ name: 'x' }));
  }

  directory(path: string): void {
    this.entry(path, { type: '5' });
  }

  leaf(path: string, sizes: readonly number[] = SIZES): void {
    const { random } = this;
    const kind = random.below(12);
    if (kind < 5) this.file(path, sizes);
    else if (kind === 5) this.sparse(path);
    else if (kind < 8 && this.files.length > 0)
      this.entry(path, { type: '1', link: random.pick(this.files) });
    else if (kind === 8)
      this.entry(path, { type: '3', major: 1 + random.below(4095), minor: random.below(1 << 20) });
    else if (kind === 9)
      this.entry(path, { type: '4', major: random.below(4096), minor: random.below(1 << 20) });
    else if (kind === 10) this.entry(path, { type: '6' });
    else this.entry(path, { type: '2', link: random.oneIn(8) ? 't'.repeat(4000) : random.pick(NAMES) });
  }

  private file(path: string, sizes: readonly number[]): void {
    const { random, contents } = this;
    // Some files are equal, so that they share blocks.
    const again = random.oneIn(4) && contents.length > 0;
    const content = again ? random.pick(contents) : random.bytes(random.pick(sizes));
    if (contents.length < 40) contents.push(content);
    this.entry(path, { type: '0' }, content);
    this.files.push(path);
  }

  private sparse(path: string): void {
    const { random } = this;
    const pieces: [number, Buffer][] = [];
    let end = random.pick([0, 1000, 4096, 8192, 100_000]);
    for (let i = random.below(6); i > 0; i--) {
      const data = random.bytes(1 + random.below(20_000));
      pieces.push([end, data]);
      end += data.length + random.pick([1, 4096, 8192, 50_000]);
    }
    this.members.push(this.extended(path), gnuSparse('sparse', end, pieces));
    this.files.push(path);
  }

  private entry(
    path: string,
    fields: { type: string; link?: string; major?: number; minor?: number },
    content: Uint8Array = new Uint8Array(),
  ): void {
    const { type, link, major = 0, minor = 0 } = fields;
    this.members.push(
      this.extended(path, link),
      member({ name: 'x', type, mode: this.mode(), major, minor }, content),
    );
  }

  private mode(): number {
    return this.random.oneIn(5)
      ? this.random.below(0o10000)
      : this.random.pick([0o644, 0o755, 0o600, 0o1777]);
  }

  /** The extended header of an entry: names, owner, time and xattrs, none of which the plain header can hold. */
  private extended(path: string, link?: string): Uint8Array {
    const { random } = this;
    const nanoseconds = String(random.below(1_000_000_000)).padStart(9, '0');
    const seconds = random.pick(['0', '1500000000', '1700000000', '4000000000', '-5']);
    const records: [string, string | Uint8Array][] = [
      ['path', path],
      ['mtime', `${seconds}.${nanoseconds}`],
      ['uid', String(random.pick(IDS))],
      ['gid', String(random.pick(IDS))],
    ];
    if (link !== undefined) records.push(['linkpath', link]);
    for (let i = random.below(4) - 1; i > 0; i--) {
      records.push([
        `SCHILY.xattr.user.${random.pick(['a', 'b', 'long'.repeat(20), 'b\xff'])}`,
        random.bytes(random.below(60)),
      ]);
    }
    if (random.oneIn(10)) records.push(['SCHILY.xattr.security.capability', CAPABILITY]);
    if (random.oneIn(10)) records.push(['SCHILY.xattr.trusted.t', random.bytes(8)]);
    return pax(records);
  }
}
