/** The environment of a container, by Docker's rules. */

/** What Docker gives an image that sets no PATH. */
export const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export interface EnvironmentInput {
  hostname: string;
  terminal: boolean;
  /** `Env` of the image config, `K=V` each. */
  image: readonly string[];
  /** `-e` in order: `K=V`, or `K` alone, which takes the value from `host` or, where that has none, removes K. */
  options: readonly string[];
  host: Readonly<Record<string, string | undefined>>;
  /** Used where nothing else sets HOME. */
  home: string;
}

/** `K=V` lines; later sources replace the values of earlier ones in place, so the order is stable. */
export function buildEnvironment(input: EnvironmentInput): string[] {
  const variables = new Map<string, string>([
    ['PATH', DEFAULT_PATH],
    ['HOSTNAME', input.hostname],
  ]);
  if (input.terminal) variables.set('TERM', 'xterm');
  for (const line of input.image) {
    const { name, value } = split(line);
    if (name !== '' && value !== undefined) variables.set(name, value);
  }
  for (const line of input.options) {
    const { name, value = input.host[name] } = split(line);
    if (value === undefined) variables.delete(name);
    else variables.set(name, value);
  }
  if (!variables.has('HOME')) variables.set('HOME', input.home);
  return [...variables].map(([name, value]) => `${name}=${value}`);
}

/** The value of one variable of a `K=V` list. */
export function valueOf(environment: readonly string[], name: string): string | undefined {
  const line = environment.find((candidate) => candidate.startsWith(`${name}=`));
  return line?.slice(name.length + 1);
}

function split(line: string): { name: string; value?: string } {
  const equals = line.indexOf('=');
  return equals < 0 ? { name: line } : { name: line.slice(0, equals), value: line.slice(equals + 1) };
}
