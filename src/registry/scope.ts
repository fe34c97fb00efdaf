/**
 * Scopes of the Docker token protocol (distribution/docs/spec/auth/scope.md): `repository:NAME:ACTION,ACTION`, and
 * `registry:catalog:*`. Actions beyond pull, push and delete are those of ACR.
 */
import { isRepositoryPath } from '../oci/reference.js';
import type { Action } from './users-file.js';

/**
 * What a request wants to do. Beside the actions that users are granted there are two that a user who may pull may
 * do, and for which narrower tokens suffice: to see the attributes, and to read the files of the repository's store.
 */
export type RequestAction = Action | 'metadata_read' | 'teleport_read';

export interface Access {
  type: 'repository' | 'registry';
  name: string;
  actions: string[];
}

/** Scopes of one token; with longer names than anybody has, they still fit into a header. */
const MAX_SCOPES = 32;
export const CATALOG_SCOPE = 'registry:catalog:*';

/** What the user must be granted. */
export function grantedAction(action: RequestAction): Action {
  return action === 'metadata_read' || action === 'teleport_read' ? 'pull' : action;
}

/** Actions of a token of which one suffices; `teleport_read` alone is given by the mount API only. */
const SUFFICIENT: Readonly<Record<RequestAction, readonly string[]>> = {
  pull: ['pull'],
  push: ['push'],
  delete: ['delete'],
  // The scripts of Project Teleport change attributes with a token for pull and push.
  metadata: ['metadata_write', 'push'],
  metadata_read: ['metadata_read', 'pull'],
  teleport_read: ['teleport_read', 'pull'],
};

/** The action of a user that lets a token have this one. */
const NEEDED: Readonly<Record<string, Action>> = {
  pull: 'pull',
  push: 'push',
  delete: 'delete',
  metadata_read: 'pull',
  metadata_write: 'metadata',
};

/** What is asked for; scopes that are malformed or of unknown type are left out, as the protocol has it. */
export function parseScopes(texts: readonly string[]): Access[] {
  const scopes = texts.flatMap((text) => text.split(' ')).filter(Boolean);
  const found: Access[] = [];
  for (const scope of scopes.slice(0, MAX_SCOPES)) {
    const [, type, name, actions] = /^(repository|registry)(?:\([^)]*\))?:(.+):([^:]*)$/.exec(scope) ?? [];
    if (type === undefined || name === undefined || actions === undefined) continue;
    // The scripts of Project Teleport are called with names like `/team/app`.
    const plain = type === 'registry' ? name : name.replace(/^\/+/, '');
    if (type === 'registry' ? name !== 'catalog' : !isRepositoryPath(plain)) continue;
    found.push({ type: type as Access['type'], name: plain, actions: actions.split(',').filter(Boolean) });
  }
  return found;
}

/** What of the request `may` allows; what nothing is left of is left out. */
export function grantScopes(
  requested: readonly Access[],
  may: (repository: string, action: Action) => boolean,
): Access[] {
  const granted: Access[] = [];
  for (const { type, name, actions } of requested) {
    const possible = actions.includes('*') ? (type === 'registry' ? ['*'] : Object.keys(NEEDED)) : actions;
    const allowed = possible.filter((action) => {
      if (type === 'registry') return action === '*';
      const needed = Object.hasOwn(NEEDED, action) ? NEEDED[action] : undefined;
      return needed !== undefined && may(name, needed);
    });
    if (allowed.length > 0) granted.push({ type, name, actions: [...new Set(allowed)] });
  }
  return granted;
}

/** Whether a token with this access lets its bearer do that. */
export function allows(access: readonly Access[], repository: string, action: RequestAction): boolean {
  const sufficient = SUFFICIENT[action];
  return access.some(
    ({ type, name, actions }) =>
      type === 'repository' && name === repository && actions.some((one) => sufficient.includes(one)),
  );
}

export function formatScopes(access: readonly Access[]): string {
  return access.map(({ type, name, actions }) => `${type}:${name}:${actions.join(',')}`).join(' ');
}

/** The scope that a client needs for an action, as challenges say it. */
export function scopeFor(repository: string, action: RequestAction): string {
  const actions: Record<RequestAction, string> = {
    pull: 'pull',
    push: 'pull,push',
    delete: 'delete',
    metadata: 'metadata_read,metadata_write',
    metadata_read: 'metadata_read',
    teleport_read: 'pull',
  };
  return `repository:${repository}:${actions[action]}`;
}
