/** What of a session can be switched off, to see what it is good for on a machine: by the environment, for all mounts. */
import type { SessionOptions } from '../native/addon.js';
import { MAX_POLL } from '../native/session.js';
import { MountError } from './mount-error.js';

/**
 * ORCA_SESSION_POLL: microseconds that a session looks for the next request before it sleeps, 0 for never.
 * ORCA_SESSION_SPLICE: `off` makes every reply to a READ a copy. Throws MountError INVALID_SETTING.
 */
export function sessionTuning(env: NodeJS.ProcessEnv): Pick<SessionOptions, 'poll' | 'splice'> {
  const { ORCA_SESSION_POLL: poll, ORCA_SESSION_SPLICE: splice } = env;
  if (poll !== undefined && !(/^\d{1,5}$/.test(poll) && Number(poll) <= MAX_POLL)) {
    throw new MountError(
      'INVALID_SETTING',
      `ORCA_SESSION_POLL is "${poll}": give microseconds from 0 to ${MAX_POLL}`,
    );
  }
  if (splice !== undefined && splice !== 'on' && splice !== 'off') {
    throw new MountError('INVALID_SETTING', `ORCA_SESSION_SPLICE is "${splice}": give on or off`);
  }
  return {
    ...(poll === undefined ? {} : { poll: Number(poll) }),
    ...(splice === undefined ? {} : { splice: splice === 'on' }),
  };
}
