/** Processes that read a mounted tree until they are told to stop, and hold every byte against a copy of it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

export const READER_KINDS = ['sequential', 'random', 'mapped', 'walk'] as const;
export type ReaderKind = (typeof READER_KINDS)[number];

/** Arguments: kind, mounted tree, copy, seed. Ends with 0 and its count when stdin ends; 1 at the first difference. */
const SCRIPT = `
import mmap, os, random, select, sys
kind, tree, copy, seed = sys.argv[1:]
rng = random.Random(int(seed))
files = sorted(os.path.relpath(os.path.join(d, f), copy) for d, _, fs in os.walk(copy) for f in fs)
shape = sorted((os.path.relpath(d, copy), tuple(sorted(ds)), tuple(sorted(fs))) for d, ds, fs in os.walk(copy))
count = 0
def same(there, here, what):
    global count
    count += 1
    if there != here: sys.exit('%s: %s differs' % (kind, what))
def stopped(): return bool(select.select([0], [], [], 0)[0])
while not stopped():
    if kind == 'walk':
        same(sorted((os.path.relpath(d, tree), tuple(sorted(ds)), tuple(sorted(fs))) for d, ds, fs in os.walk(tree)), shape, 'the tree')
        for f in files: same(os.lstat(os.path.join(tree, f)).st_size, os.lstat(os.path.join(copy, f)).st_size, f)
        continue
    f = rng.choice(files)
    a, b = (os.open(os.path.join(d, f), os.O_RDONLY) for d in (tree, copy))
    os.posix_fadvise(a, 0, 0, os.POSIX_FADV_DONTNEED)
    size = os.fstat(b).st_size
    if kind == 'sequential':
        at = 0
        while at < size:
            here = os.pread(b, 65536, at)
            same(os.pread(a, 65536, at), here, f)
            at += len(here)
    elif kind == 'random':
        for _ in range(20):
            at = rng.randrange(size)
            n = rng.randrange(1, 100000)
            same(os.pread(a, n, at), os.pread(b, n, at), f)
    else:
        m = mmap.mmap(a, size, prot=mmap.PROT_READ)
        for _ in range(20):
            at = rng.randrange(size)
            same(m[at:at + 5000], os.pread(b, 5000, at), f)
        m.close()
    os.close(a); os.close(b)
print(count)
`;

export class MountReader {
  readonly kind: ReaderKind;
  readonly #child: ChildProcess;
  #stdout = '';
  #stderr = '';
  readonly #ended: Promise<unknown>;

  constructor(kind: ReaderKind, tree: string, copy: string, seed: number) {
    this.kind = kind;
    this.#child = spawn('python3', ['-c', SCRIPT, kind, tree, copy, String(seed)], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.#child.stdout?.on('data', (chunk) => (this.#stdout += chunk));
    this.#child.stderr?.on('data', (chunk) => (this.#stderr += chunk));
    this.#ended = once(this.#child, 'close');
  }

  /** How many comparisons it made. Throws what it found wrong. */
  async stop(): Promise<number> {
    this.#child.stdin?.end();
    await this.#ended;
    if (this.#child.exitCode !== 0)
      throw new Error(`${this.kind}: ${this.#stderr || this.#child.signalCode}`);
    return Number(this.#stdout);
  }
}
