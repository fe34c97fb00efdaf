/** Project Teleport's published table: the image of 1700 MB. */
import { tableWorkload } from '../table/table-workload.js';

export const workload = tableWorkload('1700mb', { aim: '≥ 40', pulls: 2 });
