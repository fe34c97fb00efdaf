import test from 'ava';
import { allCommands, commandTree } from '../../src/cli/command-tree.js';
import { manualPages } from '../../src/cli/manual.js';
import { createProgram } from '../../src/cli/program.js';
import { packageVersion } from '../../src/installation.js';

const program = commandTree(createProgram());
const version = packageVersion();
const pages = manualPages({ program, version, date: '2026-01-31' });
const plain = (page: string) => page.replaceAll('\\-', '-').replaceAll('\\(aq', "'").replaceAll('\\(dq', '"');

test('every command has a page, and every option stands in it', (t) => {
  const nodes = [...allCommands(program)];
  t.deepEqual([...pages.keys()].sort(), [
    ...['mount.fuse.orca.8', ...nodes.map(({ path }) => `${path.join('-')}.1`)].sort(),
  ]);
  for (const node of nodes) {
    const page = plain(pages.get(`${node.path.join('-')}.1`) ?? '');
    t.true(page.startsWith(`.TH "${node.path.join('-').toUpperCase()}" "1" "2026-01-31" "orca ${version}"`));
    for (const { flags, description } of node.options) {
      t.true(page.includes(`.TP\n.B ${flags}\n${description.replace(/\s+/g, ' ')}`), `${page}: ${flags}`);
    }
  }
});

test('mount.fuse.orca(8) has the options of orca mount, as mount options', (t) => {
  const page = plain(pages.get('mount.fuse.orca.8') ?? '');
  for (const term of ['store=store', 'credentials=file', 'transports=kinds', 'wait=time', 'no-daemon']) {
    t.true(page.includes(`.TP\n.B ${term}\n`), term);
  }
  t.notRegex(page, /foreground/);
});

test('no line begins with a control character that is none', (t) => {
  for (const [name, page] of pages) {
    for (const line of page.split('\n')) t.regex(line, /^(\.(TH|SH|TP|PP|B|BR|nf|fi)\b|[^.'])|^$/, name);
  }
});
