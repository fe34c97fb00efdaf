// Unit tests: one process per file, real parts only. System tests have a configuration of their own.
export default {
  files: ['dist/test/**/*.test.js', '!dist/test/system/**'],
  require: ['./test/timing.js'],
  workerThreads: false,
  timeout: '5m',
  concurrency: 2,
};
