/** Says which source serves an image and why, and why each better one does not. */
import type { TransportKind } from '../source/mount-description.js';
import type { ReadyImage } from '../source/registry-image.js';
import type { PassedOver } from '../source/registry-transports.js';
import type { Source } from '../source/source.js';

/** Best first. */
export const TRANSPORTS: readonly TransportKind[] = ['smb', 'https', 'blob'];

interface Wishes {
  region?: string | undefined;
  transports?: readonly TransportKind[] | undefined;
}

/** Why the first source of a registry's image is the one, and what of the better transports kept them out. */
export function choiceOf(
  found: Pick<ReadyImage, 'sources' | 'passedOver' | 'description' | 'rememberedFrom'>,
  wishes: Wishes,
): { because: string; passedOver: PassedOver[] } {
  const { sources, description, rememberedFrom } = found;
  const used = sources[0]?.kind;
  const reasons = new Map(found.passedOver.map(({ kind, reason }) => [kind, reason]));
  const passedOver: PassedOver[] = [];
  for (const kind of TRANSPORTS) {
    if (kind === used) break;
    const isOffered = description.transports.some((transport) => transport.kind === kind);
    const isWanted = wishes.transports?.includes(kind) ?? true;
    const problem = reasons.get(kind);
    if (problem !== undefined) passedOver.push({ kind, reason: problem });
    else if (!isWanted) passedOver.push({ kind, reason: '--transports leaves it out', asConfigured: true });
    else if (!isOffered) passedOver.push({ kind, ...notOffered(found, wishes) });
  }
  const said = rememberedFrom === undefined ? '' : ` on ${new Date(rememberedFrom).toISOString()}`;
  const better = passedOver.length > 0 ? 'the registry offers it' : 'it is the best that the registry offers';
  return { because: `because ${better}${said}`, passedOver };
}

function notOffered(
  { description }: Pick<ReadyImage, 'description'>,
  { region }: Wishes,
): Omit<PassedOver, 'kind'> {
  if (description.reason !== undefined) return { reason: description.reason };
  if (region !== undefined && description.region !== undefined && region !== description.region) {
    return { reason: `the registry is in region ${description.region} and this host in ${region}` };
  }
  return { reason: 'the registry does not offer it', asConfigured: true };
}

/** What a user would want to know who did not ask: sources that should serve the image and do not. */
export function surprises(passedOver: readonly PassedOver[]): PassedOver[] {
  return passedOver.filter(({ asConfigured }) => !asConfigured);
}

/** `served by LOCATION (KIND, BECAUSE; not by KIND, because REASON)`. */
export function servedBy(
  sources: readonly Source[],
  because: string,
  passedOver: readonly PassedOver[],
): string {
  const [first] = sources;
  const others = passedOver.map(({ kind, reason }) => `; not by ${kind}, because ${reason}`).join('');
  return `served by ${first?.location ?? 'the cache'} (${first?.kind ?? 'cache'}, ${because}${others})`;
}
