/**
 * A published startup profile: an OCI image manifest whose `subject` is the image manifest, with the profile as its one
 * layer (docs/FORMAT.md, "Startup profile").
 */
import { digestOf } from '../oci/digest.js';
import { type Descriptor, encodeManifest, MEDIA_TYPE, parseManifest } from '../oci/manifest.js';
import { EMPTY_CONFIG } from './artifact.js';

export const PROFILE_ARTIFACT_TYPE = 'application/vnd.orca.startup-profile.v1+json';
export const PROFILE_TYPE = 'application/vnd.orca.startup-profile.v2';

/** The bytes of the artifact's manifest. */
export function encodeProfileArtifact(subject: Descriptor, profile: Descriptor): Uint8Array {
  return encodeManifest({
    mediaType: MEDIA_TYPE.manifest,
    artifactType: PROFILE_ARTIFACT_TYPE,
    config: { mediaType: MEDIA_TYPE.empty, digest: digestOf(EMPTY_CONFIG), size: EMPTY_CONFIG.length },
    layers: [profile],
    subject,
  });
}

/** The descriptor of the profile; undefined when the manifest is of something else. Throws what parseManifest throws. */
export function profileOf(manifestBytes: Uint8Array): Descriptor | undefined {
  const { artifactType, layers } = parseManifest(manifestBytes, 'startup profile');
  const [profile, ...more] = layers;
  if (artifactType !== PROFILE_ARTIFACT_TYPE || more.length > 0 || profile?.mediaType !== PROFILE_TYPE)
    return undefined;
  return { mediaType: profile.mediaType, digest: profile.digest, size: profile.size };
}
