/** Project Teleport's published table: the image of 5100 MB. */
import { tableWorkload } from '../table/table-workload.js';

export const workload = tableWorkload('5100mb', { aim: '≥ 100', pulls: 1 });
