import { NotFound, NovaError } from '../../common/errors.ts';
import { BadMethod } from '../http_errors.ts';
import type { Route } from './route.ts';

interface Node {
  children: Map<string, Node>;
  param: { name: string; node: Node } | undefined;
  methods: Map<string, Route>;
  /** Routes of `POST .../action`, by their word. */
  actions: Map<string, Route>;
}
const aNode = (): Node => ({ children: new Map(), param: undefined, methods: new Map(), actions: new Map() });

/** What a method and a path lead to: a route, or the actions from which the body chooses one. */
export type Found = { params: Record<string, string> } & ({ route: Route } | { actions: ReadonlyMap<string, Route> });

/** Finds the route of a path in as many steps as the path has parts. */
export class RouteTable {
  readonly #root = aNode();

  /** @throws NovaError when two entries are at one place */
  constructor(routes: readonly Route[]) {
    for (const route of routes) this.#add(route);
  }

  #add(route: Route): void {
    let node = this.#root;
    for (const part of route.path.split('/').filter((word) => word !== '')) {
      if (!part.startsWith(':')) {
        const child = node.children.get(part) ?? aNode();
        node.children.set(part, child);
        node = child;
        continue;
      }
      const name = part.slice(1);
      node.param ??= { name, node: aNode() };
      if (node.param.name !== name) throw new NovaError(`${route.path}: :${name} is :${node.param.name} elsewhere`);
      node = node.param.node;
    }
    const [place, key] = route.action === undefined ? [node.methods, route.method] : [node.actions, route.action];
    if (place.has(key)) throw new NovaError(`${route.method} ${route.path} ${route.action ?? ''} is there twice`);
    place.set(key, route);
  }

  /** Whether paths may begin with this. */
  isCollection(part: string): boolean {
    return this.#root.children.has(part);
  }

  /** @throws NotFound, BadMethod */
  find(method: string, parts: readonly string[]): Found {
    let node: Node | undefined = this.#root;
    const params: Record<string, string> = {};
    for (const part of parts) {
      const child: Node | undefined = node.children.get(part);
      if (child === undefined && node.param !== undefined) params[node.param.name] = part;
      node = child ?? node.param?.node;
      if (node === undefined) throw nothingAt(parts);
    }
    const route = node.methods.get(method === 'HEAD' ? 'GET' : method);
    if (route !== undefined) return { params, route };
    if (method === 'POST' && node.actions.size > 0) return { params, actions: node.actions };
    const allowed = [...node.methods.keys(), ...(node.actions.size > 0 ? ['POST'] : [])];
    if (allowed.length === 0) throw nothingAt(parts);
    throw new BadMethod(`${method} is not offered at /${parts.join('/')}; offered: ${allowed.join(', ')}`, {
      details: { allowed },
    });
  }
}

export const nothingAt = (parts: readonly string[]): NotFound =>
  new NotFound(`there is nothing at /${parts.join('/').slice(0, 200)}`);
