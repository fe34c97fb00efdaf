// System tests: real kernel mounts, Samba, runc. One file at a time, since they share the machine's devices.
export default {
  files: ['dist/test/system/**/*.test.js'],
  require: ['./test/timing.js'],
  workerThreads: false,
  timeout: '15m',
  concurrency: 1,
};
