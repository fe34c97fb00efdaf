/** The WWW-Authenticate header (RFC 9110 §11.6.1), which may hold several challenges, in one line or in many. */

export interface Challenge {
  /** Lower case: `bearer`, `basic`, … */
  scheme: string;
  /** Names are lower case. */
  parameters: ReadonlyMap<string, string>;
}

/** Longer headers are cut; the realm of a real registry fits many times. */
const MAX_HEADER = 16 << 10;
const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
/** `name=value` or `name="quoted"`, or a scheme, each with the separator in front of it. */
const PIECE = new RegExp(`[\\s,]*(${TOKEN})(?:\\s*=\\s*(?:"((?:[^"\\\\]|\\\\.)*)"|([^\\s,"]*)))?`, 'y');

/** The challenges in their order; what cannot be read ends the list. */
export function parseChallenges(header: string | string[] | undefined): Challenge[] {
  const challenges: Challenge[] = [];
  for (const line of Array.isArray(header) ? header : header === undefined ? [] : [header]) {
    let parameters: Map<string, string> | undefined;
    const text = line.slice(0, MAX_HEADER);
    PIECE.lastIndex = 0;
    for (let match = PIECE.exec(text); match !== null; match = PIECE.exec(text)) {
      const [, name = '', quoted, plain] = match;
      if (quoted === undefined && plain === undefined) {
        parameters = new Map();
        challenges.push({ scheme: name.toLowerCase(), parameters });
      } else {
        // The first of equal names counts, so that nothing appended can replace it.
        const key = name.toLowerCase();
        if (parameters !== undefined && !parameters.has(key)) {
          parameters.set(key, quoted?.replace(/\\(.)/g, '$1') ?? plain ?? '');
        }
      }
    }
  }
  return challenges;
}
