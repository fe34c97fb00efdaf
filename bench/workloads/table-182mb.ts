/** Project Teleport's published table: the image of 182 MB. */
import { tableWorkload } from '../table/table-workload.js';

export const workload = tableWorkload('182mb', { aim: '≥ 8', pulls: 3 });
