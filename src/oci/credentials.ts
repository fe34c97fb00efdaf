/** What identifies a user to a registry; nothing that prints an object shows the secrets in it. */
export interface CredentialParts {
  username?: string;
  password?: string;
  /** A refresh token of the registry's token service (OAuth 2). */
  identityToken?: string;
  /** A bearer token for the registry itself. */
  registryToken?: string;
}

export class RegistryCredentials {
  readonly #parts: CredentialParts;

  constructor(parts: CredentialParts) {
    this.#parts = { ...parts };
  }

  get username(): string | undefined {
    return this.#parts.username;
  }

  get identityToken(): string | undefined {
    return this.#parts.identityToken;
  }

  get registryToken(): string | undefined {
    return this.#parts.registryToken;
  }

  /** Value of an Authorization header (RFC 7617), when there are name and password. */
  get basic(): string | undefined {
    const { username, password } = this.#parts;
    if (username === undefined || password === undefined) return undefined;
    return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  }
}

/** Finds the credentials for a repository of a registry, anew at every call; undefined when there are none. */
export type CredentialFinder = (domain: string, path: string) => Promise<RegistryCredentials | undefined>;
