/**
 * The clients of registries, shared by the mounts that are made within a short time of each other: to connect, to find
 * out how a registry wants to be asked and to get a token takes longer than the questions themselves.
 */
import type { ClientLease } from '../mount/open-image.js';
import type { RegistryClient, RegistryClientOptions } from '../oci/registry-client.js';

/** Milliseconds that a client is given to new mounts: after a login or a change of the registry not for longer. */
const LIFETIME = 60_000;

interface Shared {
  client: RegistryClient;
  users: number;
  /** Nobody gets it any more. */
  isOver: boolean;
}

export class ClientPool {
  readonly #shared = new Map<string, Shared>();

  async open(options: RegistryClientOptions): Promise<ClientLease> {
    const { RegistryClient } = await import('../oci/registry-client.js');
    // A logger is of one request.
    const { logger: _, ...rest } = options;
    const key = JSON.stringify(rest);
    const shared = this.#shared.get(key) ?? this.#add(key, new RegistryClient(rest));
    shared.users += 1;
    let open = true;
    return {
      client: shared.client,
      close: async () => {
        if (!open) return;
        open = false;
        shared.users -= 1;
        if (shared.isOver && shared.users === 0) await shared.client.close();
      },
    };
  }

  #add(key: string, client: RegistryClient): Shared {
    const shared: Shared = { client, users: 0, isOver: false };
    this.#shared.set(key, shared);
    setTimeout(() => {
      shared.isOver = true;
      this.#shared.delete(key);
      if (shared.users === 0) void client.close();
    }, LIFETIME).unref();
    return shared;
  }
}
