/** What a workload of the benchmark is, and what it is given. */

/** Figures by name; a ratio is named `…_vs_…` and compares two sides that one run measured. */
export type Figures = Record<string, number>;

export interface Workload {
  /** The figures that it reports, each with its unit or meaning, and the aim where there is one. */
  figures: Record<string, { meaning: string; aim?: string }>;
  /** Why it cannot run on this machine; undefined when it can. */
  unavailable?(): Promise<string | undefined>;
  run(context: WorkloadContext): Promise<Figures>;
}

export interface WorkloadContext {
  /** A fresh directory on the local disk, removed afterwards. */
  work: string;
  /** How often each side is measured. */
  repetitions: number;
  /** Few minutes matter more than every side. */
  quick: boolean;
  /** Registers what is to be undone when the workload ends, however it ends; last one first. */
  defer(undo: () => unknown): void;
  /** Prints a line of detail, which is kept with the results. */
  note(text: string): void;
  /** Prints what is under way; it is not kept. */
  progress(text: string): void;
  /** Keeps rows that belong together, for the report. */
  chart(chart: Chart): void;
}

/** Bars, or a table, of the report; times and rates of one chart come from one run. */
export interface Chart {
  title: string;
  unit: string;
  rows: ChartRow[];
}

export interface ChartRow {
  label: string;
  value: number;
  /** Of the bar: Orca's own rows stand out. */
  orca?: boolean;
}
