/** Makes the links of one request's answer. */
export class Urls {
  /** `http://host:8774` */
  readonly base: string;
  readonly version: string;
  /** Essex, whose API is 2.0, calls a server by its uuid and every id a text; Diablo's 1.1 by its number. */
  readonly text_ids: boolean;
  /** What is asked for, without its query. */
  readonly here: string;
  readonly #self: string;
  readonly #bookmark: string;
  /** A thousand servers have few images and flavors. */
  readonly #references = new Map<string, Reference>();
  constructor(base: string, version: string, project_id: string, path: string) {
    const project = encodeURIComponent(project_id);
    this.base = base;
    this.here = `${base}${path}`;
    this.version = version;
    this.text_ids = version === 'v2';
    this.#self = `${base}/${version}/${project}`;
    this.#bookmark = `${base}/${project}`;
  }
  /** Where a thing is, e.g. `self('servers', 7)`. */
  self(collection: string, id: string | number): string {
    return `${this.#self}/${collection}/${id}`;
  }
  /** The same for ever, whichever versions come. */
  bookmark(collection: string, id: string | number): string {
    return `${this.#bookmark}/${collection}/${id}`;
  }
  links(collection: string, id: string | number): Link[] {
    return [
      { rel: 'self', href: this.self(collection, id) },
      { rel: 'bookmark', href: this.bookmark(collection, id) },
    ];
  }
  /** How one thing names another: its id and where it is. */
  reference(collection: string, id: string | number): Reference {
    const href = this.bookmark(collection, id);
    const known = this.#references.get(href) ?? { id: String(id), links: [{ rel: 'bookmark', href }] };
    this.#references.set(href, known);
    return known;
  }
}
export interface Reference {
  id: string;
  links: Link[];
}
export interface Link {
  rel: string;
  href: string;
}

/** Scheme, host and port as the client wrote them, else as the flags say. */
export function baseUrl(scheme: string, host_header: string | undefined, fallback: string): string {
  const host = host_header !== undefined && /^[\w.:[\]-]{1,255}$/.test(host_header) ? host_header : fallback;
  return `${scheme}://${host}`;
}
