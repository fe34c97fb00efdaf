import test from 'ava';
import { formatTable } from '../../src/cli/table.js';

test('columns are as wide as their widest cell', (t) => {
  t.is(formatTable([['a', 'bb'], ['ccc'], [], ['d', 'e', 'f']]), 'a    bb\nccc\n\nd    e   f\n');
});

test('control characters of an image do not reach the terminal', (t) => {
  t.is(formatTable([['x\u001b[2J', 'y\nz']]), 'x [2J  y z\n');
});
