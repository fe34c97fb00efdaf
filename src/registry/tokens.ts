/** Bearer tokens: JWTs (RFC 7519) signed with HS256 and a key that lies in the data directory. */
import { randomBytes } from 'node:crypto';
import { errors, jwtVerify, SignJWT } from 'jose';
import { type DataDirectory, readIfPresent } from './data-directory.js';
import { RegistryError } from './registry-error.js';
import { type Access, formatScopes } from './scope.js';

/** Long enough for a client to begin what it asked for; the registry looks at the users file all the same. */
export const ACCESS_SECONDS = 300;
const REFRESH_SECONDS = 30 * 24 * 3600;
const KEY_BYTES = 32;
const ISSUER = 'orca-registry';
const TYPES = { access: 'at+jwt', refresh: 'orca-refresh+jwt' } as const;

export interface AccessToken {
  token: string;
  issuedAt: Date;
}

export interface AccessClaims {
  /** The user; undefined is somebody who has shown no credentials. */
  user: string | undefined;
  access: Access[];
}

export interface RefreshClaims {
  user: string;
  /** See UsersFile.fingerprint. */
  fingerprint: string;
}

export class Tokens {
  private constructor(
    readonly key: Uint8Array,
    /** The audience: tokens of another registry, or for one, are not accepted. */
    private readonly service: string,
  ) {}

  /** Reads the key, or makes one. */
  static async open(data: DataDirectory, service: string): Promise<Tokens> {
    const path = data.join('token.key');
    const present = await readIfPresent(path);
    if (present !== undefined) {
      const key = Buffer.from(present.toString().trim(), 'hex');
      if (key.length === KEY_BYTES) return new Tokens(key, service);
      throw new RegistryError(
        'INVALID_DATA',
        `${path}: not ${KEY_BYTES} bytes in hex; remove it to have a new key`,
      );
    }
    const key = randomBytes(KEY_BYTES);
    await data.apply([{ path, content: Buffer.from(`${key.toString('hex')}\n`), mode: 0o600 }]);
    return new Tokens(key, service);
  }

  async issueAccess(user: string | undefined, access: readonly Access[]): Promise<AccessToken> {
    const issuedAt = new Date();
    const token = await this.sign({ access }, TYPES.access, user, issuedAt, ACCESS_SECONDS);
    return { token, issuedAt };
  }

  async issueRefresh(user: string, fingerprint: string): Promise<string> {
    return this.sign({ pwd: fingerprint }, TYPES.refresh, user, new Date(), REFRESH_SECONDS);
  }

  private sign(
    claims: Record<string, unknown>,
    typ: string,
    user: string | undefined,
    issuedAt: Date,
    seconds: number,
  ): Promise<string> {
    const now = Math.floor(issuedAt.getTime() / 1000);
    const jwt = new SignJWT(claims)
      .setProtectedHeader({ alg: 'HS256', typ })
      .setIssuer(ISSUER)
      .setAudience(this.service)
      .setIssuedAt(now)
      .setNotBefore(now)
      .setExpirationTime(now + seconds)
      .setJti(randomBytes(12).toString('base64url'));
    if (user !== undefined) jwt.setSubject(user);
    return jwt.sign(this.key);
  }

  /** Undefined for a token that is forged, expired, for another service, or no access token. */
  async verifyAccess(token: string): Promise<AccessClaims | undefined> {
    const payload = await this.verify(token, TYPES.access);
    return payload && { user: payload.sub, access: payload['access'] as Access[] };
  }

  async verifyRefresh(token: string): Promise<RefreshClaims | undefined> {
    const payload = await this.verify(token, TYPES.refresh);
    if (payload?.sub === undefined) return undefined;
    return { user: payload.sub, fingerprint: String(payload['pwd']) };
  }

  private async verify(token: string, typ: string) {
    try {
      const { payload } = await jwtVerify(token, this.key, {
        algorithms: ['HS256'],
        audience: this.service,
        issuer: ISSUER,
        typ,
        requiredClaims: ['exp', 'iat'],
      });
      return payload;
    } catch (error) {
      if (error instanceof errors.JOSEError) return undefined;
      throw error;
    }
  }
}

/** What a client gets for its credentials, in the names of Docker and of OAuth 2. */
export function tokenAnswer({ token, issuedAt }: AccessToken, granted: readonly Access[]) {
  return {
    access_token: token,
    token,
    scope: formatScopes(granted),
    expires_in: ACCESS_SECONDS,
    issued_at: issuedAt.toISOString(),
  };
}
