/** The completion scripts in zsh and fish, and the manual pages before mandoc. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { allCommands, commandTree, flagsOf } from '../../src/cli/command-tree.js';
import { completionScript } from '../../src/cli/completion-scripts.js';
import { manualPages } from '../../src/cli/manual.js';
import { createProgram } from '../../src/cli/program.js';
import { packageVersion } from '../../src/installation.js';

const run = promisify(execFile);
const program = commandTree(createProgram());
const version = packageVersion();
const nodes = [...allCommands(program)];
let directory: string;

test.before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'orca-completion-'));
});

test.after.always(() => rm(directory, { recursive: true }));

async function written(name: string, text: string): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, text);
  return path;
}

test('fish completes every command and every long option', async (t) => {
  const script = await written('orca.fish', completionScript('fish', program));
  const asked = nodes.map(
    ({ path }) => `complete -C '${path.join(' ')} '; complete -C '${path.join(' ')} --'; echo .`,
  );
  const { stdout } = await run('fish', ['--no-config', '-c', [`source ${script}`, ...asked].join('\n')], {
    cwd: directory,
  });
  const answers = stdout.split(/^\.\n/m).map((text) => text.split('\n').map((line) => line.split('\t')[0]));
  for (const [i, node] of nodes.entries()) {
    for (const inner of node.commands) t.true(answers[i]?.includes(inner.path.at(-1)), inner.path.join(' '));
    for (const { long } of node.options) t.true(answers[i]?.includes(long), `${node.path.join(' ')} ${long}`);
  }
});

test('zsh is given every command and every option', async (t) => {
  const script = await written('_orca', completionScript('zsh', program));
  // What zsh itself would show of the arrays is its own affair: here they are printed.
  const driver = `_describe() { print -rl -- "\${(@P)2}"; }; _files() { print files; }
    ask() { words=("$@"); CURRENT=$#; source ${script}; print .; }\n`;
  const asked = nodes.map(({ path }) => `ask ${path.join(' ')} -; ask ${path.join(' ')} ''`);
  const { stdout } = await run('zsh', ['-f', '-c', driver + asked.join('\n')]);
  const answers = stdout.split(/^\.\n/m).map((text) => text.trimEnd().split('\n'));
  for (const [i, node] of nodes.entries()) {
    const flags = node.options.flatMap((option) =>
      flagsOf(option).map((flag) => `${flag}:${option.description.replace(/\s+/g, ' ')}`),
    );
    t.deepEqual(answers[2 * i], flags);
    const commands = node.commands.map(({ path, summary }) => `${path.at(-1)}:${summary}`);
    t.deepEqual(answers[2 * i + 1], commands.length > 0 ? commands : ['files']);
  }
});

test('mandoc has nothing to say against the manual pages', async (t) => {
  const pages = manualPages({ program, version, date: '2026-01-31' });
  const paths = await Promise.all([...pages].map(([name, text]) => written(name, text)));
  await t.notThrowsAsync(run('mandoc', ['-T', 'lint', '-W', 'warning', ...paths]));
});
