import test from 'ava';
import { CLOSE_REQUEST, CLOSE_RESPONSE } from '../../src/smb/close.js';
import { CREATE_CONTEXT, CREATE_REQUEST, CREATE_RESPONSE } from '../../src/smb/create.js';
import { EMPTY_BODY } from '../../src/smb/empty-body.js';
import { TRANSFORM_HEADER } from '../../src/smb/encryption.js';
import { HEADER } from '../../src/smb/header.js';
import type { Layout } from '../../src/smb/layout.js';
import { NEGOTIATE_REQUEST, NEGOTIATE_RESPONSE } from '../../src/smb/negotiate.js';
import {
  DIRECTORY_ENTRY,
  QUERY_DIRECTORY_REQUEST,
  QUERY_DIRECTORY_RESPONSE,
} from '../../src/smb/query-directory.js';
import { ALL_INFORMATION, QUERY_INFO_REQUEST, QUERY_INFO_RESPONSE } from '../../src/smb/query-info.js';
import { READ_REQUEST, READ_RESPONSE } from '../../src/smb/read.js';
import { SESSION_SETUP_REQUEST, SESSION_SETUP_RESPONSE } from '../../src/smb/session-setup.js';
import { TREE_CONNECT_REQUEST, TREE_CONNECT_RESPONSE } from '../../src/smb/tree-connect.js';
import {
  IOCTL_REQUEST,
  IOCTL_RESPONSE,
  VALIDATE_REQUEST,
  VALIDATE_RESPONSE,
} from '../../src/smb/validate-negotiate.js';

/**
 * Fixed parts as MS-SMB2 § 2.2 and MS-FSCC § 2.4 draw them. Where the StructureSize is odd, it counts one byte of
 * the variable part that the fixed part here does not have; READ's request always has that byte.
 */
const SIZES: [Layout<any>, number][] = [
  [HEADER, 64],
  [TRANSFORM_HEADER, 52],
  [NEGOTIATE_REQUEST, 36],
  [NEGOTIATE_RESPONSE, 64],
  [SESSION_SETUP_REQUEST, 24],
  [SESSION_SETUP_RESPONSE, 8],
  [EMPTY_BODY, 4],
  [TREE_CONNECT_REQUEST, 8],
  [TREE_CONNECT_RESPONSE, 16],
  [CREATE_REQUEST, 56],
  [CREATE_RESPONSE, 88],
  [CREATE_CONTEXT, 16],
  [CLOSE_REQUEST, 24],
  [CLOSE_RESPONSE, 60],
  [READ_REQUEST, 49],
  [READ_RESPONSE, 16],
  [IOCTL_REQUEST, 56],
  [IOCTL_RESPONSE, 48],
  [VALIDATE_REQUEST, 24],
  [VALIDATE_RESPONSE, 24],
  [QUERY_DIRECTORY_REQUEST, 32],
  [QUERY_DIRECTORY_RESPONSE, 8],
  [DIRECTORY_ENTRY, 80],
  [QUERY_INFO_REQUEST, 40],
  [QUERY_INFO_RESPONSE, 8],
  [ALL_INFORMATION, 100],
];

for (const [layout, size] of SIZES) {
  test(`the fixed part of ${layout.name} has ${size} bytes`, (t) => t.is(layout.size, size));
}

test('every StructureSize is that of its fixed part, odd where a variable part follows', (t) => {
  for (const [layout] of SIZES) {
    if (!('structureSize' in layout.offsets)) continue;
    const zeros: Record<string, unknown> = {};
    for (const [name, at] of Object.entries(layout.offsets)) {
      const width =
        Math.min(
          ...Object.values(layout.offsets)
            .concat(layout.size)
            .filter((other) => other > at),
        ) - at;
      zeros[name] =
        width === 16
          ? Buffer.alloc(16)
          : width === 8 && !name.startsWith('endOf') && name !== 'offset'
            ? 0n
            : 0;
    }
    const declared = layout.encode(zeros as never).readUInt16LE(layout.offsets.structureSize);
    t.true(declared === layout.size || declared === layout.size + 1, `${layout.name}: ${declared}`);
  }
});
