/** A network link between the host and a server on loopback: round trip time and bandwidth (link.cc). */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../test/system/command.js';

export interface LinkSpeed {
  /** Milliseconds. */
  roundTrip: number;
  /** Mbit/s, in each direction. */
  bandwidth: number;
}

/** As between hosts of one rack, of one region, and from far away. */
export const LINKS = {
  rack: { roundTrip: 0.5, bandwidth: 10_000 },
  region: { roundTrip: 2, bandwidth: 1000 },
  remote: { roundTrip: 30, bandwidth: 200 },
} satisfies Record<string, LinkSpeed>;

export class Link {
  private constructor(
    /** On 127.0.0.1. */
    readonly port: number,
    private readonly process: ChildProcess,
  ) {}

  /** Opens a link to a port of 127.0.0.1. `work` is a directory for the program, which is compiled first. */
  static async open(work: string, port: number, speed: LinkSpeed): Promise<Link> {
    const directory = join(work, 'link');
    await mkdir(directory, { recursive: true });
    const program = join(directory, 'link');
    const source = join(import.meta.dirname, '../../../bench/link/link.cc');
    await run(process.env['CXX'] ?? 'c++', ['-std=c++20', '-O2', '-Wall', '-Wextra', '-o', program, source]);
    const { roundTrip, bandwidth } = speed;
    const child = spawn(program, ['127.0.0.1', String(port), String(roundTrip * 1000), String(bandwidth)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    return new Link(Number(line.toString()), child);
  }

  /** Bytes in both directions since it was opened; one question at a time. */
  async bytes(): Promise<number> {
    const answer = once(this.process.stdout!, 'data');
    this.process.stdin!.write('\n');
    const [line] = (await answer) as [Buffer];
    return Number(line.toString());
  }

  /** Cuts all connections. */
  async close(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = once(this.process, 'exit');
    this.process.stdin?.end();
    await ended;
  }
}
