import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type ListenOptions } from 'node:net';

/** Below what the kernel gives to who asks for any port, as every connection does: so nobody takes one between this answer and its use. */
const LOWEST = 10_240;
const HIGHEST = 32_767;

/**
 * A TCP port of 127.0.0.1 that nobody listens on, for this process alone as long as it lives: a unix socket without a
 * file, of the port's name, tells the other tests of this machine.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(LOWEST, HIGHEST + 1);
    const reserved = await listens({ path: `\0nova-test-port-${port}` });
    if (!reserved) continue;
    reserved.unref();
    const tried = await listens({ port, host: '127.0.0.1' });
    if (!tried) continue; // a server of this machine's own: it stays reserved, so that it is not tried again
    tried.close();
    await once(tried, 'close');
    return port;
  }
}

/** @returns null when the address is taken */
async function listens(where: ListenOptions) {
  const server = createServer().listen(where);
  try {
    await once(server, 'listening');
    return server;
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'EADDRINUSE') return null;
    throw err;
  }
}
