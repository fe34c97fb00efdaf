/** A container that reads all files of its image, over and over, while what serves them is killed and started again. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

/** Of the page cache it wants nothing, so every read goes to whoever serves the image. */
const READER = `
import json, os, time
paths = [os.path.join(d, f) for d, _, files in os.walk("/usr") for f in files]
paths = [p for p in paths if os.path.isfile(p) and not os.path.islink(p)]
print("reading", flush=True)
seen = {"reads": 0, "errors": 0, "first error": None, "longest pause, ms": 0}
last, end, i = time.monotonic(), time.monotonic() + 12, 0
while time.monotonic() < end:
    path = paths[i % len(paths)]
    i += 1
    try:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.read(fd, 65536)
        finally:
            os.close(fd)
        seen["reads"] += 1
    except OSError as error:
        seen["errors"] += 1
        seen["first error"] = seen["first error"] or error.strerror
        time.sleep(0.01)
        continue
    now = time.monotonic()
    seen["longest pause, ms"] = max(seen["longest pause, ms"], round((now - last) * 1000))
    last = now
seen["last read, s before the end"] = round(end - last, 1)
print(json.dumps(seen), flush=True)
`;

/** Of the container's arguments; its program is python3. */
export const READER_COMMAND = ['python3', '-c', READER];

/** Seconds of reading before the kill, and until what was killed is started again. */
const [BEFORE_MS, AWAY_MS] = [3000, 1000];

/** What the reader has seen, and how its container ended. `args`: of a `ctr run` of READER_COMMAND. */
export async function readThrough(
  args: readonly string[],
  kill: () => Promise<unknown>,
  restart: () => Promise<unknown>,
): Promise<string> {
  const child = spawn('ctr', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  const closed = once(child, 'close');
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk));
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk;
      if (stdout.includes('reading\n')) resolve();
    });
    child.once('close', () => reject(new Error(`the reader does not begin: ${stderr.slice(-2000)}`)));
  });
  await sleep(BEFORE_MS);
  await kill();
  await sleep(AWAY_MS);
  await restart();
  const [code, signal] = (await closed) as [number | null, NodeJS.Signals | null];
  const seen = stdout.slice(stdout.indexOf('reading\n') + 'reading\n'.length).trim();
  return `${seen || 'nothing more of it'}, ended with ${signal ?? code}`;
}
