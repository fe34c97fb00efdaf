// Writes the manual pages to dist/man, and the completion scripts to dist/completion. SOURCE_DATE_EPOCH dates them.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { commandTree } from '../dist/src/cli/command-tree.js';
import { SHELLS } from '../dist/src/cli/completion.js';
import { completionScript } from '../dist/src/cli/completion-scripts.js';
import { manualPages } from '../dist/src/cli/manual.js';
import { createProgram } from '../dist/src/cli/program.js';
import { packageVersion } from '../dist/src/installation.js';

const dist = fileURLToPath(new URL('../dist', import.meta.url));
const { SOURCE_DATE_EPOCH } = process.env;
const time = SOURCE_DATE_EPOCH === undefined ? new Date() : new Date(Number(SOURCE_DATE_EPOCH) * 1000);
const program = commandTree(createProgram());

write('man', manualPages({ program, version: packageVersion(), date: time.toISOString().slice(0, 10) }));
write('completion', new Map(SHELLS.map((shell) => [`orca.${shell}`, completionScript(shell, program)])));

function write(folder, files) {
  const directory = join(dist, folder);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  for (const [name, text] of files) writeFileSync(join(directory, name), text);
}
