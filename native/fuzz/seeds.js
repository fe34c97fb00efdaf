// What fuzzing begins with: small images of every kind of inode, and one request of every opcode. Needs `dist`.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { deflateRawSync, gzipSync } from 'node:zlib';

const { bytesReader, ErofsImage } = await import('../../dist/src/erofs/reader.js');
const { directory, file, imageOf, sampleTree, special, symlink } = await import('../../dist/test/erofs/tree-arbitrary.js');

const DEVICES = [{ tag: 'a'.repeat(64), blocks: 256 }];

/** Writes corpus folders below `folder` and gives their names, and that of the index that requests are served from. */
export function writeSeeds(folder) {
  const indexes = join(folder, 'indexes');
  const requests = join(folder, 'requests');
  mkdirSync(indexes);
  mkdirSync(requests);
  const names = Array.from({ length: 300 }, (_, i) => `entry-${i}`);
  const served = directory({
    big: file(1 << 20, [{ fileOffset: 0, device: 1, block: 0, blocks: 256 }]),
    sparse: file(5 * 4096, [{ fileOffset: 8192, device: 1, block: 9, blocks: 1 }]),
    link: symlink('some/where'),
    null: special('chardev', 1, 3),
    xattrs: file(0, [], { xattrs: new Map([['user.a', Buffer.from('value')]]) }),
    many: directory(Object.fromEntries(names.map((name) => [name, file(0)]))),
  });
  const index = join(indexes, 'served');
  const image = imageOf(served, { dataBlocks: 0, devices: DEVICES });
  writeFileSync(index, image);
  writeFileSync(join(indexes, 'sample'), imageOf(sampleTree(), { dataBlocks: 16, devices: DEVICES }));
  writeFileSync(join(indexes, 'empty'), imageOf(directory({}), { dataBlocks: 0 }));
  const reader = ErofsImage.open(bytesReader(image), image.length);
  const nodeids = reader.entries(reader.rootNid).map(({ nid }) => (nid === reader.rootNid ? 1 : Number(nid) + 2));
  for (let opcode = 1; opcode <= 53; opcode++) {
    const messages = nodeids.flatMap((nodeid) => ['', 'big\0'].map((name) => request(opcode, nodeid, name)));
    writeFileSync(join(requests, String(opcode)), Buffer.concat(messages));
  }
  return { indexes, requests, inflate: writeStreams(folder), index };
}

/** A member, two, one that is damaged; the rest of a stream, with and without a window. */
function writeStreams(folder) {
  const inflate = join(folder, 'inflate');
  mkdirSync(inflate);
  const text = Buffer.from(Array.from({ length: 3000 }, (_, i) => `${i % 97} bottles of ${i % 13}\n`).join(''));
  const head = (bits, window = 0) => Buffer.from([bits, 0, window & 255, window >> 8]);
  const member = gzipSync(text);
  const damaged = Buffer.from(member);
  damaged.fill(0xff, 100, 110);
  const window = text.subarray(0, 1000);
  const streams = {
    member: [head(8), member],
    members: [head(8), member, gzipSync(''), gzipSync(text, { level: 0 }), Buffer.alloc(9)],
    damaged: [head(8), damaged],
    raw: [head(0), deflateRawSync(text), Buffer.alloc(8), member],
    window: [head(3, window.length), window, deflateRawSync(text, { dictionary: window })],
  };
  for (const [name, parts] of Object.entries(streams)) writeFileSync(join(inflate, name), Buffer.concat(parts));
  return inflate;
}

/** One message after its length. The body is long enough for READ, and starts with the name if there is one. */
function request(opcode, nodeid, name) {
  const body = Buffer.alloc(48);
  if (name === '') body.writeUInt32LE(0x8000, 16);
  else body.write(name);
  const message = Buffer.alloc(42 + body.length);
  message.writeUInt16LE(40 + body.length, 0);
  message.writeUInt32LE(40 + body.length, 2);
  message.writeUInt32LE(opcode, 6);
  message.writeUInt32LE(nodeid * 2, 10);
  message.writeUInt32LE(nodeid, 18);
  message.set(body, 42);
  return message;
}
