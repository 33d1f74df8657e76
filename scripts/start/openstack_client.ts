import { StartError } from './start_error.ts';

export interface Server {
  id: number;
  name: string;
}

/** The OpenStack API 1.1 as any client speaks it: a token for user and key, then requests with the token. */
export class OpenStackClient {
  readonly #url: string;
  readonly #token: string;

  private constructor(url: string, token: string) {
    this.#url = url;
    this.#token = token;
  }

  /** @param url of the version, `http://127.0.0.1:8774/v1.1/` */
  static async login(url: string, user: string, key: string, project: string): Promise<OpenStackClient> {
    const answer = await fetch(url, {
      headers: { 'X-Auth-User': user, 'X-Auth-Key': key, 'X-Auth-Project-Id': project },
    });
    const token = answer.headers.get('x-auth-token');
    const management_url = answer.headers.get('x-server-management-url');
    if (token === null || management_url === null)
      throw new StartError(`GET ${url}: ${answer.status} ${await answer.text()}`);
    return new OpenStackClient(management_url, token);
  }

  /** @throws StartError with the API's own words */
  async #ask(method: string, path: string, body?: unknown): Promise<unknown> {
    const answer = await fetch(`${this.#url}${path}`, {
      method,
      headers: { 'X-Auth-Token': this.#token, 'Content-Type': 'application/json', Accept: 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    if (!answer.ok) throw new StartError(`${method} ${path}: ${answer.status} ${text}`);
    return text === '' ? undefined : (JSON.parse(text) as unknown);
  }

  async servers(): Promise<Server[]> {
    return ((await this.#ask('GET', '/servers')) as { servers: Server[] }).servers;
  }

  async launch(server: Record<string, unknown>): Promise<Server> {
    return ((await this.#ask('POST', '/servers', { server })) as { server: Server }).server;
  }

  /** Gone already is success. */
  async terminate(id: number): Promise<void> {
    try {
      await this.#ask('DELETE', `/servers/${id}`);
    } catch (err) {
      if (!(err instanceof StartError) || !err.message.includes(`/${id}: 404 `)) throw err;
    }
  }

  /** What the guest wrote to its serial console. */
  async console(id: number): Promise<string> {
    const body = { 'os-getConsoleOutput': {} };
    return ((await this.#ask('POST', `/servers/${id}/action`, body)) as { output: string }).output;
  }

  async keyPairs(): Promise<string[]> {
    const { keypairs } = (await this.#ask('GET', '/os-keypairs')) as { keypairs: { keypair: { name: string } }[] };
    return keypairs.map(({ keypair }) => keypair.name);
  }

  /** @returns the private key, which the cloud does not keep */
  async makeKeyPair(name: string): Promise<string> {
    const made = await this.#ask('POST', '/os-keypairs', { keypair: { name } });
    return (made as { keypair: { private_key: string } }).keypair.private_key;
  }

  async forgetKeyPair(name: string): Promise<void> {
    await this.#ask('DELETE', `/os-keypairs/${name}`);
  }
}
