import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { Iscsi } from './a_store.ts';

/** An initiator that logs in by hand, so that it can stop half-way. Source: RFC 7143, 11.12 and 12. */
export class IscsiLogin {
  readonly #socket: Socket;
  readonly #connection: Iscsi;
  #sent = 0;
  #received = Buffer.alloc(0);

  constructor(socket: Socket, connection: Iscsi) {
    this.#socket = socket;
    this.#connection = connection;
    socket.on('data', (data: Buffer) => (this.#received = Buffer.concat([this.#received, data])));
    socket.on('error', () => undefined); // it was closed by the other side
  }

  static async connect(connection: Iscsi): Promise<IscsiLogin> {
    const [host = '', port = ''] = connection.target_portal.split(':');
    const socket = connect(Number(port), host);
    await once(socket, 'connect');
    return new IscsiLogin(socket, connection);
  }

  close(): void {
    this.#socket.destroy();
  }

  /** Shows that it knows the secret; the login is not done then. */
  async authenticate(): Promise<void> {
    const { target_iqn, auth_username, auth_password } = this.#connection;
    const names = { InitiatorName: 'iqn.2008-11.org.linux-kvm:by-hand', TargetName: target_iqn, SessionType: 'Normal' };
    await this.#ask(0, 0, { ...names, AuthMethod: 'CHAP' });
    const { CHAP_I = '', CHAP_C = '' } = (await this.#ask(0, 0, { CHAP_A: '5' })).keys;
    const challenge = Buffer.from(CHAP_C.slice(2), 'hex');
    const digest = createHash('md5')
      .update(Buffer.from([Number(CHAP_I)]))
      .update(auth_password)
      .update(challenge);
    const { status } = await this.#ask(0, 1, { CHAP_N: auth_username, CHAP_R: `0x${digest.digest('hex')}` });
    if (status !== 0) throw new Error(`not authenticated: ${status}`);
  }

  /** The rest of the login. @returns the status, 0 for a session; null when the connection was closed */
  async finish(): Promise<number | null> {
    try {
      return (await this.#ask(1, 3, { HeaderDigest: 'None', DataDigest: 'None' })).status;
    } catch {
      return null;
    }
  }

  async #ask(stage: number, next: number, keys: Record<string, string>) {
    const text = Buffer.from(
      Object.entries(keys)
        .map(([key, value]) => `${key}=${value}\0`)
        .join(''),
    );
    const head = Buffer.alloc(48);
    head[0] = 0x43; // a login request, immediate
    head[1] = (next > stage ? 0x80 : 0) | (stage << 2) | next;
    head.writeUIntBE(text.length, 5, 3);
    head[8] = 0x80; // a random ISID
    head.writeUInt32BE(1, 16);
    head.writeUInt32BE(this.#sent++ === 0 ? 0 : this.#sent, 28);
    const padding = Buffer.alloc((4 - (text.length % 4)) % 4);
    this.#received = Buffer.alloc(0);
    this.#socket.write(Buffer.concat([head, text, padding]));
    while (this.#received.length < 48 || this.#received.length < 48 + this.#received.readUIntBE(5, 3)) {
      if (this.#socket.readyState !== 'open') throw new Error('closed');
      await Promise.race([once(this.#socket, 'data'), once(this.#socket, 'close')]);
    }
    const words = this.#received.toString('latin1', 48, 48 + this.#received.readUIntBE(5, 3)).split('\0');
    const pairs = words.filter((word) => word !== '').map((word) => word.split('=') as [string, string]);
    return { status: this.#received.readUInt16BE(36), keys: Object.fromEntries(pairs) as Record<string, string> };
  }
}
