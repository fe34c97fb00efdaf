/** A result of a workload, for tests. */
import type { WorkloadResult } from '../../bench/results.js';

export function result(fields: Partial<WorkloadResult> = {}): WorkloadResult {
  return {
    figures: {},
    charts: [],
    notes: [],
    date: '2024-01-01T00:00:00.000Z',
    seconds: 1,
    repetitions: 1,
    load: [0, 0],
    described: {},
    ...fields,
  };
}
