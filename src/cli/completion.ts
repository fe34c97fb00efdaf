/** `orca completion`: a script by which a shell completes commands and options. */
import { Argument, type Command } from 'commander';
import { guarded } from './failure.js';
import { addLogOptions, applyLogOptions } from './options.js';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

export function addCompletionCommand(program: Command): void {
  const command = program
    .command('completion')
    .summary('print a completion script')
    .description(
      'Prints a script that completes commands and options. For this shell alone: source <(orca completion bash)',
    )
    .addArgument(new Argument('<shell>').choices(SHELLS));
  addLogOptions(command);
  command.action(
    guarded(async (shell: Shell) => {
      await applyLogOptions(command, 'info');
      const [{ completionScript }, { commandTree }] = await Promise.all([
        import('./completion-scripts.js'),
        import('./command-tree.js'),
      ]);
      process.stdout.write(completionScript(shell, commandTree(program)));
    }),
  );
}
