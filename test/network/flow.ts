import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Host } from '../rigs/netns.ts';
import { Program } from '../rigs/program.ts';
import { atEnd, projectRoot, type Scope } from '../rigs/tmp.ts';

const CLIENT = join(projectRoot(), 'dist/test/network/flow_client.js');

export interface Flow {
  /** Ends it in order. @returns how many numbers went there and back. @throws Error when one was lost, or the connection */
  stop(): Promise<number>;
}

/** A TCP connection that numbers go over all the time; see flow_client.ts. @param address at which `from` sees `to` */
export async function startFlow(scope: Scope, from: Host, to: Host, address: string, port: number): Promise<Flow> {
  const server = new Program({
    name: 'echo server',
    argv: ['socat', `TCP-LISTEN:${port},reuseaddr,fork`, 'PIPE'],
    log: join(to.dir, `echo-${port}.log`),
    enter: to.enter,
  });
  atEnd(scope, () => server.kill());
  await server.start(async () => (await to.exec(['ss', '-ltn'])).stdout.includes(`:${port} `));
  const log = join(from.dir, `flow-${port}.log`);
  const said = () => readFileSync(log, 'utf8');
  const client = new Program({
    name: `flow to ${address}:${port}`,
    argv: [process.execPath, CLIENT, address, String(port)],
    log,
    enter: from.enter,
  });
  atEnd(scope, () => client.kill());
  await client.start(async () => said().startsWith('connected\n'));
  return {
    async stop() {
      client.signal('SIGTERM');
      await client.ended;
      if (client.exit_code !== 0) throw new Error(`the flow to ${address}:${port} did not last: ${said()}`);
      return (JSON.parse(said().split('\n')[1] ?? '') as { returned: number }).returned;
    },
  };
}
