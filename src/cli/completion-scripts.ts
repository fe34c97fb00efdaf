/**
 * Completion scripts for bash, zsh and fish, generated from the commands. All three work the same way: the words
 * before the cursor lead to a command, as `orca/registry/expand`, and that has commands and options.
 */

import { allCommands, type CommandNode, flagsOf, takesValue } from './command-tree.js';
import type { Shell } from './completion.js';

export function completionScript(shell: Shell, program: CommandNode): string {
  return { bash, zsh, fish }[shell](program);
}

function bash(program: CommandNode): string {
  return `# bash completion of orca; generated
_orca() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD - 1]}" at=orca i words=
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$at/\${COMP_WORDS[i]}" in
      ${pathsBelow(program).join(' | ')}) at="$at/\${COMP_WORDS[i]}" ;;
    esac
  done
  COMPREPLY=()
  case "$at $prev" in
${cases(
  choicesOf(program).map(({ at, flag, choices }) => [`"${at} ${flag}"`, `words=${quote(choices.join(' '))}`]),
  4,
)}
  esac
  if [ -z "$words" ]; then
    case "$at $cur" in
${cases(
  nodes(program).map((node) => [`"${node.path.join('/')} -"*`, `words=${quote(optionsOf(node).join(' '))}`]),
  6,
)}
${cases(
  nodes(program)
    .filter(({ commands }) => commands.length > 0)
    .map((node) => [`"${node.path.join('/')} "*`, `words=${quote(node.commands.map(nameOf).join(' '))}`]),
  6,
)}
    esac
  fi
  [ -z "$words" ] || COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -o bashdefault -F _orca orca
`;
}

function zsh(program: CommandNode): string {
  const described = (name: string, text: string) => quote(`${name.replaceAll(':', '\\:')}:${oneLine(text)}`);
  const arrays = nodes(program).map((node): [string, string] => [
    node.path.join('/'),
    `commands=(${node.commands.map((inner) => described(nameOf(inner), inner.summary)).join(' ')})
      options=(${node.options
        .flatMap((option) => flagsOf(option).map((flag) => described(flag, option.description)))
        .join(' ')})`,
  ]);
  return `#compdef orca
# zsh completion of orca; generated
_orca() {
  local at=orca word
  local -a commands options choices
  for word in "\${(@)words[2,CURRENT-1]}"; do
    case "$at/$word" in
      (${pathsBelow(program).join('|')}) at="$at/$word" ;;
    esac
  done
  case "$at \${words[CURRENT-1]}" in
${choicesOf(program)
  .map(({ at, flag, choices }) => `    ("${at} ${flag}") choices=(${choices.map(quote).join(' ')}) ;;`)
  .join('\n')}
  esac
  case "$at" in
${arrays.map(([pattern, body]) => `    (${pattern}) ${body} ;;`).join('\n')}
  esac
  if (( $#choices )); then _describe value choices
  elif [[ "\${words[CURRENT]}" == -* ]]; then _describe option options
  elif (( $#commands )); then _describe command commands
  else _files
  fi
}
_orca "$@"
`;
}

function fish(program: CommandNode): string {
  const lines = nodes(program).flatMap((node) => {
    const here = `complete -c orca -n 'test (__orca_at) = ${node.path.join('/')}'`;
    const commands = node.commands.map(
      (inner) => `${here} -f -a ${fishQuote(nameOf(inner))} -d ${fishQuote(oneLine(inner.summary))}`,
    );
    const options = node.options.map((option) => {
      const names = flagsOf(option).map((flag) =>
        flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`,
      );
      const { argChoices } = option;
      const value = !takesValue(option)
        ? ''
        : argChoices === undefined
          ? ' -r'
          : ` -x -a ${fishQuote(argChoices.join(' '))}`;
      return `${here} ${names.join(' ')}${value} -d ${fishQuote(oneLine(option.description))}`;
    });
    return [...commands, ...options];
  });
  return `# fish completion of orca; generated
function __orca_at
  set -l at orca
  for word in (commandline -opc)[2..-1]
    switch "$at/$word"
      case ${pathsBelow(program).join(' ')}
        set at "$at/$word"
    end
  end
  echo $at
end
${lines.join('\n')}
`;
}

const nodes = (program: CommandNode) => [...allCommands(program)];
const nameOf = ({ path }: CommandNode) => path.at(-1) ?? '';
const optionsOf = ({ options }: CommandNode) => options.flatMap(flagsOf);
const oneLine = (text: string) => text.replace(/\s+/g, ' ');

function pathsBelow(program: CommandNode): string[] {
  return nodes(program)
    .slice(1)
    .map(({ path }) => path.join('/'));
}

function choicesOf(program: CommandNode): { at: string; flag: string; choices: readonly string[] }[] {
  return nodes(program).flatMap(({ path, options }) =>
    options.flatMap((option) =>
      flagsOf(option).flatMap((flag) =>
        option.argChoices === undefined ? [] : [{ at: path.join('/'), flag, choices: option.argChoices }],
      ),
    ),
  );
}

function cases(branches: readonly (readonly [string, string])[], indent: number): string {
  return branches.map(([pattern, body]) => `${' '.repeat(indent)}${pattern}) ${body} ;;`).join('\n');
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function fishQuote(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
