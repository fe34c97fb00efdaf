/** Virtual hard disks: the fixed ones that Orca writes, and those that it reads. */
export { fixedFooter } from './footer.js';
export { VhdError } from './vhd-error.js';
