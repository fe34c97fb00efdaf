/** Where a server listens, as a URL without a path. */
import type { AddressInfo } from 'node:net';

export function httpUrl({ address, family, port }: AddressInfo, scheme: 'http' | 'https' = 'http'): string {
  return `${scheme}://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
}
