/** The endpoints of a gateway, in the place of those of the embedded registry. */
import type { RegistryContext, RouteGroup } from '../context.js';
import { notificationRoutes, readNotificationToken } from '../routes/notifications.js';
import type { Gateway } from './gateway.js';
import { gatewayRoutes } from './gateway-routes.js';
import { gatewayTokenRoutes } from './token-routes.js';

/** `notificationsToken`: path of the secret's file. Throws RegistryError INVALID_OPTION when it cannot be used. */
export async function gatewayApi(
  gateway: Gateway,
  { storage }: Pick<RegistryContext, 'storage'>,
  notificationsToken: string | undefined,
): Promise<readonly RouteGroup[]> {
  if (notificationsToken !== undefined) await readNotificationToken(notificationsToken);
  return [
    gatewayRoutes(gateway),
    gatewayTokenRoutes(gateway),
    notificationRoutes({
      tokenFile: notificationsToken,
      pushed: (name, digest, tags) => gateway.announced(storage.repository(name), digest, tags),
      deleted: (name, digest) => gateway.forget(storage.repository(name), digest),
      untagged: (name, tag) => gateway.forgetTag(storage.repository(name), tag),
    }),
  ];
}
