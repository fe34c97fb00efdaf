/**
 * The test command: tools, build, lint, unit tests (on this Node and on Node 24), system tests. The last line is
 * `N passed, N failed`, summed over all of them; a step that fails counts as one failed test.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { node24Tests } from './node24.js';
import { ensureTools } from './tools.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const bin = (name) => join(root, 'node_modules', '.bin', name);
const work = mkdtempSync(join(tmpdir(), 'orca-test-'));
const slowestShown = 8;
/** When a step that still runs is killed, so that the counts are always printed: ms after the start. */
const budget = 80 * 60_000;
const total = { passed: 0, failed: 0 };
/** Titles of what failed: said again at the end, since a log of this length is seldom kept whole. */
const failed = [];

function notOk(title) {
  failed.push(title);
  console.log(`not ok - ${title}`);
}

/** Runs a step that is no test; false, and one failure counted, when it throws. */
async function step(title, action) {
  const began = performance.now();
  try {
    await action();
    console.log(`# ${title}: ${seconds(performance.now() - began)}`);
    return true;
  } catch (error) {
    total.failed++;
    notOk(`${title}: ${error.message}`);
    return false;
  }
}

async function command(file, ...args) {
  const child = spawn(file, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  const [code, signal] = await once(child, 'close');
  if (code !== 0) throw new Error(`${relative(root, file)} ended with ${signal ?? code}`);
}

/** Runs ava, shows what fails and what takes long, and adds its counts to the total. */
async function tests(title, [file, ...args], showPassed) {
  const times = join(work, `${title.replaceAll(' ', '-')}.times`);
  const began = performance.now();
  const child = spawn(file, [...args, '--tap'], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ORCA_TEST_TIMES: times },
  });
  const exit = once(child, 'exit');
  const lines = createInterface({ input: child.stdout });
  const deadline = setTimeout(() => {
    notOk(`${title}: still running ${seconds(budget)} after the start`);
    child.kill('SIGKILL');
    // What its tests have started may hold the other end.
    lines.close();
    child.stdout.destroy();
  }, budget - performance.now());
  const counts = { pass: 0, fail: 0 };
  let shown = false;
  for await (const line of lines) {
    const [, name, count] = /^# (pass|fail) (\d+)$/.exec(line) ?? [];
    if (name !== undefined) counts[name] += Number(count);
    else if (/^(not )?ok /.test(line)) shown = showPassed || line.startsWith('not ');
    else if (/^(TAP version|1\.\.\d|# (?! )|$)/.test(line)) shown = false;
    const text = line.replace(/^((not )?ok) \d+ - /, '$1 - ');
    if (shown) console.log(text);
    if (text.startsWith('not ok - ')) failed.push(`${title}: ${text.slice('not ok - '.length)}`);
  }
  const [code, signal] = await exit;
  clearTimeout(deadline);
  if (counts.fail === 0 && (code !== 0 || counts.pass === 0)) {
    counts.fail = 1;
    notOk(`${title}: ava ended with ${signal ?? code}, ${counts.pass} tests passed`);
  }
  total.passed += counts.pass;
  total.failed += counts.fail;
  console.log(
    `# ${title}: ${counts.pass} passed, ${counts.fail} failed, ${seconds(performance.now() - began)}`,
  );
  for (const [ms, path] of slowest(times)) console.log(`#   ${seconds(ms).padStart(8)}  ${path}`);
}

function slowest(times) {
  let text = '';
  try {
    text = readFileSync(times, 'utf8');
  } catch {
    return [];
  }
  const rows = [...text.matchAll(/^(\d+) (.*)$/gm)].map(([, ms, path]) => [
    Number(ms),
    relative(join(root, 'dist'), path),
  ]);
  return rows.sort(([a], [b]) => b - a).slice(0, slowestShown);
}

function seconds(ms) {
  return `${(ms / 1000).toFixed(1)} s`;
}

const prepared =
  (await step('tools', ensureTools)) &&
  (await step('build', async () => {
    await command(process.execPath, 'native/build.js');
    rmSync(join(root, 'dist'), { recursive: true, force: true });
    await command(bin('tsc'), '-p', 'tsconfig.json');
  }));
await step('lint', () => command(bin('biome'), 'check', '.'));
if (prepared) {
  await tests('unit tests', [bin('ava')], false);
  await step('unit tests on Node 24', async () => tests('unit tests on Node 24', node24Tests(), false));
  await step('images', () => command(process.execPath, 'dist/test/system/images.js'));
  await tests('system tests', [bin('ava'), '--config', 'ava.system.config.js'], true);
}
rmSync(work, { recursive: true });
for (const title of failed) console.log(`# failed: ${title}`);
console.log(`${total.passed} passed, ${total.failed} failed`);
process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1;
