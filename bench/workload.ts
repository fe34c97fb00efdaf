/** What a workload of the benchmark is, and what it is given. */

/** Figures by name; a ratio is named `…_vs_…` and compares two sides that one run measured. */
export type Figures = Record<string, number>;

export interface Workload {
  /** The figures that it reports, each with its unit or meaning, and the aim where there is one. */
  figures: Record<string, { meaning: string; aim?: string }>;
  run(context: WorkloadContext): Promise<Figures>;
}

export interface WorkloadContext {
  /** A fresh directory on the local disk, removed afterwards. */
  work: string;
  /** How often each side is measured. */
  repetitions: number;
  /** Registers what is to be undone when the workload ends, however it ends; last one first. */
  defer(undo: () => unknown): void;
  /** Prints a line of detail. */
  note(text: string): void;
}
