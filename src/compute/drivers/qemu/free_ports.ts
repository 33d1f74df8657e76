import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';

/** As many TCP ports of 127.0.0.1 as asked for, free a moment ago and all different. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  try {
    for (const server of servers) await once(server.listen(0, '127.0.0.1'), 'listening');
    return servers.map((server) => (server.address() as AddressInfo).port);
  } finally {
    for (const server of servers) server.close();
  }
}
