/** Project Teleport's published table: the image of tiny. */
import { tableWorkload } from '../table/table-workload.js';

export const workload = tableWorkload('tiny', { aim: '≥ 1', pulls: 5 });
