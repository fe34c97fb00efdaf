/** Dialects, ciphers and signing algorithms by the names users see (MS-SMB2 § 2.2.3, 2.2.3.1.2, 2.2.3.1.7). */

export const DIALECTS = { '2.1': 0x0210, '3.0.2': 0x0302, '3.1.1': 0x0311 } as const;
export type Dialect = keyof typeof DIALECTS;

export interface CipherSpec {
  readonly id: number;
  readonly algorithm: 'aes-128-ccm' | 'aes-128-gcm' | 'aes-256-ccm' | 'aes-256-gcm';
  readonly keyLength: 16 | 32;
  /** The part of the 16-byte Nonce field that is used (MS-SMB2 § 2.2.41). */
  readonly nonceLength: 11 | 12;
}

export const CIPHERS = {
  'AES-128-GCM': { id: 2, algorithm: 'aes-128-gcm', keyLength: 16, nonceLength: 12 },
  'AES-256-GCM': { id: 4, algorithm: 'aes-256-gcm', keyLength: 32, nonceLength: 12 },
  'AES-128-CCM': { id: 1, algorithm: 'aes-128-ccm', keyLength: 16, nonceLength: 11 },
  'AES-256-CCM': { id: 3, algorithm: 'aes-256-ccm', keyLength: 32, nonceLength: 11 },
} as const satisfies Record<string, CipherSpec>;
export type Cipher = keyof typeof CIPHERS;

export const SIGNING_ALGORITHMS = { 'AES-128-GMAC': 2, 'AES-128-CMAC': 1, 'HMAC-SHA256': 0 } as const;
export type SigningAlgorithm = keyof typeof SIGNING_ALGORITHMS;

/** The name whose value is `id` (or has that id), if any. */
export function nameOf<N extends string>(
  table: Record<N, number | { id: number }>,
  id: number,
): N | undefined {
  for (const name of Object.keys(table) as N[]) {
    const entry = table[name];
    if ((typeof entry === 'number' ? entry : entry.id) === id) return name;
  }
  return undefined;
}
