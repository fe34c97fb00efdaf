/**
 * The peer: a read-only FUSE server on fuse-native, as one would write it for speed. Serves SOURCE at MOUNTPOINT from
 * an index in memory, with unlimited cache times, files read from SOURCE.
 * Usage: node fuse-native-server.cjs SOURCE MOUNTPOINT; prints "mounted", ends when stdin does.
 */
'use strict';
const fs = require('node:fs');
const path = require('node:path');
const Fuse = require('fuse-native');

const [source, mountpoint] = process.argv.slice(2);
const ENOENT = -2;
const FOREVER = 1_000_000;

/** Path in the mount to { stat, names, fd }. */
const index = new Map();
(function add(real, name) {
  const stat = fs.lstatSync(real);
  const node = { stat, names: undefined, target: undefined, real, fd: -1 };
  index.set(name, node);
  if (stat.isSymbolicLink()) node.target = fs.readlinkSync(real);
  if (stat.isDirectory()) {
    node.names = fs.readdirSync(real);
    for (const child of node.names) add(path.join(real, child), path.posix.join(name, child));
  }
})(source, '/');

const operations = {
  getattr(name, reply) {
    const node = index.get(name);
    return node === undefined ? reply(ENOENT) : reply(0, node.stat);
  },
  readdir(name, reply) {
    const node = index.get(name);
    return node?.names === undefined ? reply(ENOENT) : reply(0, node.names);
  },
  readlink(name, reply) {
    const node = index.get(name);
    return node?.target === undefined ? reply(ENOENT) : reply(0, node.target);
  },
  open(name, _flags, reply) {
    const node = index.get(name);
    if (node === undefined) return reply(ENOENT);
    if (node.fd < 0) node.fd = fs.openSync(node.real, 'r');
    return reply(0, node.fd);
  },
  read(_name, fd, buffer, length, position, reply) {
    fs.read(fd, buffer, 0, length, position, (error, bytes) => reply(error ? error.errno : bytes));
  },
  release(_name, _fd, reply) {
    reply(0);
  },
};

const fuse = new Fuse(mountpoint, operations, {
  timeout: false,
  allowOther: true,
  kernelCache: true,
  entryTimeout: FOREVER,
  attrTimeout: FOREVER,
  maxRead: 1 << 20,
});
fuse.mount((error) => {
  if (error) throw error;
  console.log('mounted');
});
process.stdin.resume();
process.stdin.on('end', () => fuse.unmount(() => process.exit(0)));
