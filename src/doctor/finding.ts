/** What a look at one thing of this host has found. */

/** A `problem` keeps `orca run` from working; a `warning` makes it slower, or less safe. */
export type FindingState = 'ok' | 'warning' | 'problem';

export interface Finding {
  /** What was looked at, in a word or two. */
  name: string;
  state: FindingState;
  /** What was found. */
  text: string;
  /** What to do about it; there unless all is well. */
  remedy?: string;
}

export function ok(name: string, text: string): Finding {
  return { name, state: 'ok', text };
}

export function warning(name: string, text: string, remedy: string): Finding {
  return { name, state: 'warning', text, remedy };
}

export function problem(name: string, text: string, remedy: string): Finding {
  return { name, state: 'problem', text, remedy };
}
