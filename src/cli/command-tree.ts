/** The commands and options of the program as data: what completion and manual pages are generated from. */
import type { Argument, Command, Option } from 'commander';

export interface CommandNode {
  /** From `orca` down, such as `['orca', 'registry', 'expand']`. */
  path: string[];
  summary: string;
  description: string;
  arguments: readonly Argument[];
  /** `--help` included. */
  options: Option[];
  commands: CommandNode[];
}

export function commandTree(command: Command, parents: readonly string[] = []): CommandNode {
  const path = [...parents, command.name()];
  const help = command.createHelp();
  return {
    path,
    summary: command.summary() || command.description(),
    description: command.description(),
    arguments: command.registeredArguments,
    options: help.visibleOptions(command),
    commands: help
      .visibleCommands(command)
      .filter((inner) => inner.name() !== 'help')
      .map((inner) => commandTree(inner, path)),
  };
}

/** The command and all below it, parents first. */
export function* allCommands(node: CommandNode): Generator<CommandNode> {
  yield node;
  for (const inner of node.commands) yield* allCommands(inner);
}

/** Short and long form, as far as there are both. */
export function flagsOf({ short, long }: Option): string[] {
  return [short, long].filter((flag) => flag !== undefined);
}

/** Of an option or an argument; without its default, which is of this host and user. */
export function takesValue(option: Option): boolean {
  return option.required || option.optional;
}
