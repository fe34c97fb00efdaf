/** A users file of a test, and the credentials of its users. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hashSync } from 'bcryptjs';

export const PASSWORD = 'pass word';
/** The cheapest that there is. */
const HASH = hashSync(PASSWORD, 4);

/** Writes a file with these users, which all have the same password, and their grants; gives its path. */
export function writeUsers(
  t: { teardown(action: () => void): void },
  grants: Readonly<Record<string, string>>,
): string {
  const directory = mkdtempSync(join(tmpdir(), 'orca-users-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'users');
  const lines = Object.entries(grants).map(
    ([name, granted]) => `${name}:${name === 'anonymous' ? '' : HASH}:${granted}\n`,
  );
  writeFileSync(path, lines.join(''));
  return path;
}

export function basic(name: string, password = PASSWORD): { authorization: string } {
  return { authorization: `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}` };
}

export function bearer(token: string): { authorization: string } {
  return { authorization: `Bearer ${token}` };
}
