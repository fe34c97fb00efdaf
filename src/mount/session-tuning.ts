/** What of a session can be switched off, to see what it is good for on a machine: by the environment, for all mounts. */
import type { SessionOptions } from '../native/addon.js';
import { MAX_POLL } from '../native/session.js';
import { MountError } from './mount-error.js';

export type SessionTuning = Pick<SessionOptions, 'poll' | 'splice'> & { foresee?: boolean };

/**
 * ORCA_SESSION_POLL: microseconds that a session looks for the next request before it sleeps, 0 for never.
 * ORCA_SESSION_SPLICE: `off` makes every reply to a READ a copy.
 * ORCA_SESSION_FORESEE: `off` fetches nothing because of where a READ stands in the layout of the image.
 * Throws MountError INVALID_SETTING.
 */
export function sessionTuning(env: NodeJS.ProcessEnv): SessionTuning {
  const { ORCA_SESSION_POLL: poll } = env;
  const splice = onOrOff(env, 'ORCA_SESSION_SPLICE');
  const foresee = onOrOff(env, 'ORCA_SESSION_FORESEE');
  if (poll !== undefined && !(/^\d{1,5}$/.test(poll) && Number(poll) <= MAX_POLL)) {
    throw new MountError(
      'INVALID_SETTING',
      `ORCA_SESSION_POLL is "${poll}": give microseconds from 0 to ${MAX_POLL}`,
    );
  }
  return {
    ...(poll === undefined ? {} : { poll: Number(poll) }),
    ...(splice === undefined ? {} : { splice }),
    ...(foresee === undefined ? {} : { foresee }),
  };
}

function onOrOff(env: NodeJS.ProcessEnv, name: string): boolean | undefined {
  const value = env[name];
  if (value === undefined) return undefined;
  if (value !== 'on' && value !== 'off')
    throw new MountError('INVALID_SETTING', `${name} is "${value}": give on or off`);
  return value === 'on';
}
