/**
 * Resolves the `User` of an image (`name|uid[:group|gid]`) in the image's own passwd and group files, as Docker
 * does (github.com/moby/sys/user, GetExecUser): the first matching line wins, a number is always an id, an id
 * needs no entry, and additional groups count only where no group was named.
 *
 * Unlike Docker, a line with a malformed id is skipped, not read as id 0.
 */
import { RuntimeError } from './runtime-error.js';

export interface ProcessUser {
  uid: number;
  gid: number;
  /** The primary group comes first, so that dropping a group by setgroups(2) takes nothing else along. */
  additionalGids: number[];
  home: string;
}

/** The largest id that Docker accepts, 2³¹ - 1. */
const MAX_ID = 0x7fffffff;

interface PasswdLine {
  name: string;
  uid: number;
  gid: number;
  home: string;
}

interface GroupLine {
  name: string;
  gid: number;
  members: string[];
}

/**
 * `spec` may be empty (root). `passwd` and `group` are the contents of the image's files, '' where it has none.
 * Throws RuntimeError NO_SUCH_USER, NO_SUCH_GROUP, or INVALID_OPTION for an id out of range.
 */
export function resolveUser(spec: string, passwd: string, group: string): ProcessUser {
  const [userName = '', groupName = ''] = spec.split(':', 2);
  const entry = findUser(userName, passwd);
  const uid = entry?.uid ?? (userName === '' ? 0 : parseId(userName, spec));
  if (uid === undefined) {
    throw new RuntimeError(
      'NO_SUCH_USER',
      `no user ${JSON.stringify(userName)} in the image's /etc/passwd; use -u with a name that it has, or a number`,
    );
  }
  const home = entry?.home || '/';
  if (groupName !== '') {
    const gid = findGroup(groupName, group)?.gid ?? parseId(groupName, spec);
    if (gid === undefined) {
      throw new RuntimeError(
        'NO_SUCH_GROUP',
        `no group ${JSON.stringify(groupName)} in the image's /etc/group; use -u with a name that it has, or a number`,
      );
    }
    return { uid, gid, additionalGids: [gid], home };
  }
  const gid = entry?.gid ?? 0;
  const memberships = entry === undefined ? [] : groupsOf(entry.name, group);
  return { uid, gid, additionalGids: [...new Set([gid, ...memberships])], home };
}

function findUser(name: string, passwd: string): PasswdLine | undefined {
  const uid = name === '' ? 0 : toNumber(name);
  for (const line of passwdLines(passwd)) {
    if (uid === undefined ? line.name === name : line.uid === uid) return line;
  }
  return undefined;
}

function findGroup(name: string, group: string): GroupLine | undefined {
  const gid = toNumber(name);
  for (const line of groupLines(group)) {
    if (gid === undefined ? line.name === name : line.gid === gid) return line;
  }
  return undefined;
}

function groupsOf(user: string, group: string): number[] {
  const gids: number[] = [];
  for (const line of groupLines(group)) if (line.members.includes(user)) gids.push(line.gid);
  return gids;
}

/** passwd(5): name:password:uid:gid:comment:home:shell */
function* passwdLines(text: string): Generator<PasswdLine> {
  for (const fields of lines(text)) {
    const [name = '', , uidText = '', gidText = '', , home = ''] = fields;
    const uid = toId(uidText);
    const gid = toId(gidText);
    if (name !== '' && uid !== undefined && gid !== undefined) {
      yield { name, uid, gid, home: home.startsWith('/') ? home : '/' };
    }
  }
}

/** group(5): name:password:gid:member,member */
function* groupLines(text: string): Generator<GroupLine> {
  for (const fields of lines(text)) {
    const [name = '', , gidText = '', members = ''] = fields;
    const gid = toId(gidText);
    if (name !== '' && gid !== undefined)
      yield { name, gid, members: members.split(',').map((m) => m.trim()) };
  }
}

function* lines(text: string): Generator<string[]> {
  for (const line of text.split('\n')) {
    const trimmed = line.trim();
    if (trimmed !== '' && !trimmed.startsWith('#') && !trimmed.includes('\0')) yield trimmed.split(':');
  }
}

function toNumber(text: string): number | undefined {
  return /^-?[0-9]+$/.test(text) ? Number(text) : undefined;
}

function toId(text: string): number | undefined {
  const id = toNumber(text);
  return id !== undefined && id >= 0 && id <= MAX_ID ? id : undefined;
}

function parseId(text: string, spec: string): number | undefined {
  const id = toNumber(text);
  if (id === undefined || (id >= 0 && id <= MAX_ID)) return id;
  throw new RuntimeError(
    'INVALID_OPTION',
    `user ${JSON.stringify(spec)}: ids must be in the range 0 to ${MAX_ID}`,
  );
}
