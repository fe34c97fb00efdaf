import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import test from 'ava';
import { allCommands, commandTree, flagsOf } from '../../src/cli/command-tree.js';
import { completionScript } from '../../src/cli/completion-scripts.js';
import { createProgram } from '../../src/cli/program.js';

const program = commandTree(createProgram());
const script = completionScript('bash', program);

/** What bash offers for each of these command lines, whose last word is being written. */
async function offered(lines: readonly (readonly string[])[]): Promise<string[][]> {
  const asked = lines.map((words) => {
    const quoted = words.map((word) => `'${word}'`).join(' ');
    return `COMP_WORDS=(${quoted}); COMP_CWORD=${words.length - 1}; _orca; echo "\${COMPREPLY[*]}"`;
  });
  const { stdout } = await promisify(execFile)('bash', ['-c', [script, ...asked].join('\n')]);
  return stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => line.split(' ').filter((word) => word !== ''));
}

test('bash completes every command and every option', async (t) => {
  const nodes = [...allCommands(program)];
  const options = await offered(nodes.map(({ path }) => [...path, '-']));
  const commands = await offered(nodes.map(({ path }) => [...path, '']));
  for (const [i, node] of nodes.entries()) {
    t.deepEqual(options[i]?.sort(), node.options.flatMap(flagsOf).sort(), node.path.join(' '));
    t.deepEqual(
      commands[i],
      node.commands.map(({ path }) => path.at(-1)),
    );
  }
});

test('bash completes beginnings, values of options, and leaves the rest to file names', async (t) => {
  t.deepEqual(
    await offered([
      ['orca', 'registry', 'exp'],
      ['orca', '--log-level', 'debug', 'run', '--net', ''],
      ['orca', 'run', '--pull', 'a'],
      ['orca', 'run', 'image', 'expand', '--sto'],
      ['orca', 'mount', '/srv/'],
      ['orca', 'bogus', '-'],
    ]),
    [['expand'], ['host', 'none'], ['always'], ['--store'], [], [...program.options.flatMap(flagsOf)]],
  );
});
