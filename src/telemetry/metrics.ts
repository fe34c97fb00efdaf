/**
 * Writes metrics in the text format of Prometheus (version 0.0.4): families of samples, names and help as they are
 * given, label values escaped. https://prometheus.io/docs/instrumenting/exposition_formats/
 */
import { type Histogram, LATENCY_BOUNDS } from './histogram.js';

export const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

export type Labels = Readonly<Record<string, string>>;

export class Metrics {
  readonly #families = new Map<string, string[]>();

  /** A number that only grows while the process lives; its name ends in `_total`. */
  counter(name: string, help: string, value: number, labels: Labels = {}): void {
    this.#family(name, help, 'counter').push(sample(name, labels, value));
  }

  gauge(name: string, help: string, value: number, labels: Labels = {}): void {
    this.#family(name, help, 'gauge').push(sample(name, labels, value));
  }

  /** In seconds, as Prometheus wants it; the name ends in `_seconds`. */
  histogram(name: string, help: string, value: Histogram, labels: Labels = {}): void {
    const lines = this.#family(name, help, 'histogram');
    let below = 0;
    for (const [index, bound] of LATENCY_BOUNDS.entries()) {
      below += value.counts[index] ?? 0;
      lines.push(sample(`${name}_bucket`, { ...labels, le: String(bound / 1000) }, below));
    }
    lines.push(sample(`${name}_bucket`, { ...labels, le: '+Inf' }, value.count));
    lines.push(sample(`${name}_sum`, labels, value.sum / 1000), sample(`${name}_count`, labels, value.count));
  }

  toString(): string {
    return [...this.#families.values()].flatMap((lines) => lines.map((line) => `${line}\n`)).join('');
  }

  #family(name: string, help: string, type: string): string[] {
    let lines = this.#families.get(name);
    if (lines === undefined) {
      lines = [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`];
      this.#families.set(name, lines);
    }
    return lines;
  }
}

function sample(name: string, labels: Labels, value: number): string {
  const pairs = Object.entries(labels).map(([key, text]) => `${key}="${escapeLabel(text)}"`);
  return `${name}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${value}`;
}

function escapeLabel(text: string): string {
  return text.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n');
}
