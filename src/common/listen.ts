import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { NovaError } from './errors.ts';
import type { Log } from './log.ts';

export interface Listening {
  /** The one that was asked for, or the one that port 0 became. */
  port: number;
  /** Takes nothing new; what came is answered, or after `grace_ms` cut off. */
  close(grace_ms: number): Promise<void>;
}

/** @param flag names the port in the error, e.g. `ec2_listen_port`. @throws NovaError that says who is in the way */
export async function listen(
  server: Server,
  address: string,
  port: number,
  flag: string,
  log: Log,
): Promise<Listening> {
  await new Promise<void>((resolve, reject) => {
    const refused = (err: NodeJS.ErrnoException) => {
      const why =
        err.code === 'EADDRINUSE'
          ? 'another process listens there; stop it or choose another port'
          : err.code === 'EADDRNOTAVAIL'
            ? 'this host has no such address'
            : err.message;
      reject(new NovaError(`--${flag}: cannot listen on ${address}:${port}: ${why}`, { cause: err }));
    };
    server.once('error', refused).listen(port, address, () => {
      server.off('error', refused);
      resolve();
    });
  });
  // Of one connection, which the kernel did not hand out; without a listener it would end the process.
  server.on('error', (err) => log.warn({ err, flag }, 'a connection was not taken'));
  return {
    port: (server.address() as AddressInfo).port,
    close: async (grace_ms) => {
      const closed = once(server, 'close');
      server.close();
      // Connections that clients keep open for further requests, as soon as their last one is answered.
      const idle = setInterval(() => server.closeIdleConnections(), 50);
      const cut = setTimeout(() => server.closeAllConnections(), grace_ms);
      await closed;
      clearInterval(idle);
      clearTimeout(cut);
    },
  };
}
