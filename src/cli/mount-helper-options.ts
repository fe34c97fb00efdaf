/**
 * The command line of a mount helper, as mount(8) ("External helpers") and libfuse's mount.fuse3 write it:
 *
 *     mount.fuse.orca SOURCE TARGET [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]
 *
 * What `orca mount` has as --NAME VALUE is the mount option NAME=VALUE here.
 */
import type { Option } from 'commander';

/** What mount(8) calls incorrect invocation or permissions. */
export class HelperUsageError extends Error {}

export interface HelperOrder {
  source: string;
  target: string;
  verbose: boolean;
  /** Check everything and mount nothing. */
  fake: boolean;
  /** Change the flags of a mount that is there. */
  remount: boolean;
  noexec: boolean;
  /** Options of `orca mount`. */
  options: string[];
}

/**
 * Options of mount(8), mount.fuse3 and systemd that every mount of an image fulfils, or that change nothing on one:
 * it is read-only, has no devices, honours no set-user-ID bits, keeps no access times, and is open to all users.
 */
const WITHOUT_EFFECT = new Set(
  (
    'ro rw defaults async sync dirsync atime noatime diratime nodiratime relatime norelatime strictatime ' +
    'nostrictatime lazytime nolazytime iversion noiversion mand nomand dev nodev suid nosuid exec silent loud ' +
    'auto noauto _netdev nofail user users nouser owner group nogroup noowner nousers ' +
    'allow_other default_permissions nonempty'
  ).split(' '),
);
/** Options with values that are for others: comments of fstab, systemd, user space, and what FUSE itself shows of a mount. */
const FOR_OTHERS =
  /^(?:x-[^=]+|X-[^=]+|comment|user|uhelper|helper|fsname|subtype|user_id|group_id|max_read)(?:=|$)/;
/** Options of `orca mount` that would not return, or whose effect is the helper's own. */
const NOT_FOR_MOUNT = new Set(['foreground', 'help', 'version']);

/** `known` are the options of `orca mount`. Throws HelperUsageError, which never quotes a value. */
export function parseHelperArguments(args: readonly string[], known: readonly Option[]): HelperOrder {
  const operands: string[] = [];
  const lists: string[] = [];
  const flags = new Set<string>();
  for (let i = 0; i < args.length; i++) {
    const argument = args[i] ?? '';
    if (!argument.startsWith('-') || argument === '-') {
      operands.push(argument);
      continue;
    }
    for (let at = 1; at < argument.length; at++) {
      const flag = argument[at] ?? '';
      if ('sfnvrw'.includes(flag)) flags.add(flag);
      else if ('oNt'.includes(flag)) {
        const value = argument.slice(at + 1) || args[++i];
        if (value === undefined) throw new HelperUsageError(`-${flag} needs a value`);
        if (flag === 'N')
          throw new HelperUsageError('-N is not supported: enter the namespace with nsenter --mount first');
        if (flag === 'o') lists.push(value);
        break;
      } else throw new HelperUsageError(`unknown flag -${flag}`);
    }
  }
  const [source, target, ...rest] = operands;
  if (source === undefined || target === undefined || rest.length > 0)
    throw new HelperUsageError('usage: mount.fuse.orca IMAGE DIRECTORY [-sfnv] [-o OPTIONS]');
  const order = {
    source,
    target,
    verbose: flags.has('v'),
    fake: flags.has('f'),
    remount: false,
    noexec: false,
    options: [] as string[],
  };
  const unknown = lists.flatMap(splitOptions).filter((option) => !take(option, order, known));
  if (unknown.length > 0 && !flags.has('s')) {
    const names = unknown.map((option) => option.replace(/=.*$/s, '')).join(', ');
    throw new HelperUsageError(`unknown mount option ${names}: orca mount --help lists what there is`);
  }
  return order;
}

/** Whether there is such an option. */
function take(text: string, order: HelperOrder, known: readonly Option[]): boolean {
  const equals = text.indexOf('=');
  const name = (equals < 0 ? text : text.slice(0, equals)).replaceAll('_', '-');
  const value = equals < 0 ? undefined : text.slice(equals + 1).replace(/^"(.*)"$/s, '$1');
  if (/^(?:pass(?:word)?|username)$/.test(name))
    throw new HelperUsageError(`${name} is not a mount option here: give credentials=FILE`);
  if (name === 'remount' || name === 'noexec') {
    order[name] = true;
    return true;
  }
  if (WITHOUT_EFFECT.has(text) || FOR_OTHERS.test(text)) return true;
  const option = known.find(({ long }) => long === `--${name}`);
  if (option === undefined || NOT_FOR_MOUNT.has(name)) return false;
  if (option.required && (value === undefined || value === ''))
    throw new HelperUsageError(`the mount option ${name} needs a value`);
  if (option.isBoolean() || option.negate) {
    if (value !== undefined) throw new HelperUsageError(`the mount option ${name} takes no value`);
    order.options.push(`--${name}`);
    return true;
  }
  if (name === 'store' && /^[a-z][a-z0-9+.-]*:\/\/[^/]*:.*@/i.test(value ?? ''))
    throw new HelperUsageError(
      'the URL of the store holds a password, which every user can read in the list of processes: give credentials=FILE',
    );
  // A comma would have to be quoted, which fstab's readers do not all understand.
  order.options.push(`--${name}=${name === 'transports' ? value?.replaceAll(':', ',') : value}`);
  return true;
}

/** At commas that are not inside double quotes, as libmount does it. */
function splitOptions(list: string): string[] {
  return (list.match(/(?:"[^"]*"|[^,"]|")+/g) ?? []).map((option) => option.trim()).filter(Boolean);
}
