/** Manual pages, in the macros of man(7), generated from the commands. */
import { allCommands, type CommandNode, takesValue } from './command-tree.js';

export interface ManualSource {
  program: CommandNode;
  version: string;
  /** `YYYY-MM-DD` */
  date: string;
}

/** Text by file name, such as `orca-run.1`: a page for each command, and mount.fuse.orca(8). */
export function manualPages({ program, version, date }: ManualSource): Map<string, string> {
  const header = (name: string, section: number) =>
    `.TH "${name.toUpperCase()}" "${section}" "${date}" "orca ${version}" "Orca"\n`;
  const pages = new Map<string, string>();
  for (const node of allCommands(program)) {
    const name = pageName(node);
    pages.set(`${name}.1`, header(escape(name), 1) + commandPage(node, program));
  }
  const mount = program.commands.find(({ path }) => path.at(-1) === 'mount');
  if (mount !== undefined) pages.set('mount.fuse.orca.8', header('mount.fuse.orca', 8) + helperPage(mount));
  return pages;
}

function commandPage(node: CommandNode, program: CommandNode): string {
  const operands = node.arguments.map((argument) => {
    const text = `${argument.name()}${argument.variadic ? '...' : ''}`;
    return argument.required ? text : `[${text}]`;
  });
  const synopsis = [
    ...node.path,
    '[options]',
    ...operands,
    ...(node.commands.length > 0 ? ['[command]'] : []),
  ].join(' ');
  const described = node.arguments.filter(({ description }) => description !== '');
  const variables = node.options.filter(({ envVar }) => envVar !== undefined);
  const related = [...allCommands(program)]
    .filter((other) => other !== node)
    .filter((other) => other === program || isNextTo(node, other));
  return [
    section('NAME', `${escape(pageName(node))} \\- ${escape(oneLine(node.summary).replace(/\.$/, ''))}\n`),
    section('SYNOPSIS', `.B ${escape(synopsis)}\n`),
    section('DESCRIPTION', paragraphs(node.description)),
    described.length === 0
      ? ''
      : section('ARGUMENTS', described.map((item) => entry(item.name(), item.description)).join('')),
    node.commands.length === 0
      ? ''
      : section(
          'COMMANDS',
          node.commands.map((inner) => entry(inner.path.slice(1).join(' '), inner.summary)).join(''),
        ),
    section('OPTIONS', node.options.map(optionEntry).join('')),
    variables.length === 0
      ? ''
      : section(
          'ENVIRONMENT',
          variables.map(({ envVar = '', long }) => entry(envVar, `in place of ${long}`)).join(''),
        ),
    section('EXIT STATUS', paragraphs(exitStatus(node))),
    section('FILES', entry('/etc/orca/config.toml', 'configuration of the host')),
    section('SEE ALSO', `${related.map((other) => `.BR ${escape(pageName(other))} (1)`).join(',\n')}\n`),
  ].join('');
}

function exitStatus({ path }: CommandNode): string {
  if (path[1] === 'run') {
    return 'That of the container; 125 when orca failed, 126 when the command cannot be run, 127 when it is not there.';
  }
  return '0; 1 for a failure; 2 for a command line that cannot be understood; 128 + n when interrupted by signal n.';
}

/** Options of `orca mount` as mount options. */
function helperPage(mount: CommandNode): string {
  const options = mount.options.filter(({ long }) => long !== '--help' && long !== '--foreground');
  const entries = options.map((option) => {
    const value = takesValue(option) ? `=${option.flags.replace(/^.*?[<[]|[>\]]$/g, '')}` : '';
    return entry(`${option.long?.slice(2)}${value}`, option.description);
  });
  return [
    section('NAME', 'mount.fuse.orca \\- mount a container image with mount(8)\n'),
    section(
      'SYNOPSIS',
      '.B mount \\-t fuse.orca image directory \\-o options\n.PP\n.B mount.fuse.orca image directory [\\-sfnv] [\\-o options]\n',
    ),
    section(
      'DESCRIPTION',
      paragraphs(
        'Mounts an image of a registry, or of a store, read-only, as orca mount does. It is called by mount(8), also for lines of fstab(5) with the type fuse.orca. It returns when the mount answers. umount(8) ends it.\n\nOptions of mount(8) are accepted: every mount is read-only, without devices, set-user-ID bits and access times; noexec is heeded. An option that is not known is an error, unless -s is given. Passwords are refused as options, since mount shows them to every user: give credentials=FILE.',
      ),
    ),
    section('OPTIONS', entries.join('')),
    section(
      'EXIT STATUS',
      paragraphs('0; 1 for a wrong invocation; 2 for a failure of the system; 32 when the mount failed.'),
    ),
    section(
      'EXAMPLES',
      '.nf\npython:numpy /srv/python fuse.orca store=smb://files.example.net/orca,credentials=/etc/orca/reader,_netdev,nofail 0 0\n.fi\n',
    ),
    section('SEE ALSO', '.BR orca\\-mount (1),\n.BR mount (8),\n.BR fstab (5)\n'),
  ].join('');
}

/** Parent and children. */
function isNextTo(node: CommandNode, other: CommandNode): boolean {
  const [short, long] = [node.path, other.path].sort((a, b) => a.length - b.length) as [string[], string[]];
  return long.length === short.length + 1 && short.every((part, i) => part === long[i]);
}

function pageName({ path }: CommandNode): string {
  return path.join('-');
}

function section(name: string, text: string): string {
  return `.SH ${name}\n${text}`;
}

function optionEntry(option: CommandNode['options'][number]): string {
  const choices = option.argChoices === undefined ? '' : ` (one of ${option.argChoices.join(', ')})`;
  return entry(option.flags, `${option.description}${choices}`);
}

function entry(term: string, text: string): string {
  return `.TP\n.B ${escape(term)}\n${escape(oneLine(text)) || '\\&'}\n`;
}

function paragraphs(text: string): string {
  return `${text
    .split(/\n{2,}/)
    .map((paragraph) => escape(oneLine(paragraph)))
    .join('\n.PP\n')}\n`;
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}

/** For roff: a hyphen that is to be copied is a minus, and a line must not begin with a control character. */
function escape(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll("'", '\\(aq')
    .replaceAll('"', '\\(dq')
    .replace(/^\./, '\\&.');
}
