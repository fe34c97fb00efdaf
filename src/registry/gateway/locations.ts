/**
 * URLs of the upstream as clients of the gateway see them. What lies under `/v2/` on the upstream's host is at the
 * same path here; other hosts (storage that blobs are redirected to) are the client's own business.
 *
 * Where an upload goes on is for the registry to say (distribution-spec, "Pushing a blob in chunks"), and some say a
 * path that is not the specification's: such a path travels, signed, in the query of one that is.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Upstream } from './upstream.js';

const SEALED = '_orca';
/** Stands for the id of an upload whose path is sealed. */
const SEALED_ID = '~';
/** An id that goes through as it is. */
const PLAIN_ID = /^[\w.=+@:-]{1,900}$/;
const MAC_CHARACTERS = 22;

export class Locations {
  constructor(
    private readonly upstream: Pick<Upstream, 'url' | 'isHostOf'>,
    private readonly key: Uint8Array,
  ) {}

  /** A Location for the client; `upload`: the repository that an upload goes on in. Undefined for what is no URL. */
  toClient(location: string, path: string, upload: string | undefined): string | undefined {
    const base = new URL(path, this.upstream.url);
    if (!URL.canParse(location, base.href)) return undefined;
    const url = new URL(location, base.href);
    if (url.protocol !== 'http:' && url.protocol !== 'https:') return undefined;
    if (!this.upstream.isHostOf(url)) return url.href;
    const target = `${url.pathname}${url.search}`;
    if (upload === undefined) return url.pathname.startsWith('/v2/') ? target : url.href;
    const prefix = `/v2/${upload}/blobs/uploads/`;
    const plain = url.pathname.startsWith(prefix) && isPlainId(url.pathname.slice(prefix.length));
    return plain ? target : `${prefix}${SEALED_ID}?${SEALED}=${this.seal(upload, target)}`;
  }

  /** A Link header (RFC 8288): targets on the upstream become paths. */
  linkToClient(link: string, path: string): string {
    return link.replace(/<([^>]*)>/g, (whole, target: string) => {
      const url = this.toClient(target, path, undefined);
      return url === undefined ? whole : `<${url}>`;
    });
  }

  /** Path and query at the upstream of an upload's URL; undefined for one that we have not given. */
  uploadPath(repository: string, id: string, query: string): string | undefined {
    if (id !== SEALED_ID) {
      return isPlainId(id) ? `/v2/${repository}/blobs/uploads/${id}${query && `?${query}`}` : undefined;
    }
    const parameters = query.split('&');
    const sealed = parameters.find((parameter) => parameter.startsWith(`${SEALED}=`));
    const path = sealed && this.open(repository, sealed.slice(SEALED.length + 1));
    if (path === undefined || path === '') return undefined;
    const others = parameters.filter((parameter) => parameter !== '' && parameter !== sealed).join('&');
    return `${path}${others && (path.includes('?') ? '&' : '?')}${others}`;
  }

  private seal(repository: string, path: string): string {
    return `${Buffer.from(path).toString('base64url')}.${this.mac(repository, path)}`;
  }

  private open(repository: string, sealed: string): string | undefined {
    const [, encoded, mac] = /^([\w-]+)\.([\w-]+)$/.exec(sealed) ?? [];
    if (encoded === undefined || mac?.length !== MAC_CHARACTERS) return undefined;
    const path = Buffer.from(encoded, 'base64url').toString();
    return timingSafeEqual(Buffer.from(mac), Buffer.from(this.mac(repository, path))) ? path : undefined;
  }

  private mac(repository: string, path: string): string {
    const content = JSON.stringify(['upload', repository, path]);
    return createHmac('sha256', this.key).update(content).digest('base64url').slice(0, MAC_CHARACTERS);
  }
}

function isPlainId(id: string): boolean {
  return PLAIN_ID.test(id) && !/^\.+$/.test(id);
}
