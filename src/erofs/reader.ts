/** Reading EROFS: an image, its tree, and what goes wrong. */
export { ErofsError } from './erofs-error.js';
export { ErofsImage, type ErofsInode } from './image.js';
export { bytesReader, type ReadAt } from './read-at.js';
export { type ReadTreeOptions, readTree } from './read-tree.js';
