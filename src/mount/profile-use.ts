/** What becomes of startup profiles: `share` also publishes them to the image's registry, `off` neither records nor replays. */
export const PROFILE_USES = ['share', 'keep', 'off'] as const;
export type ProfileUse = (typeof PROFILE_USES)[number];
