import type { RequestContext } from '../../src/common/context.ts';
import { call, rpcContract } from '../../src/common/rpc/contract.ts';

/** What the messages carry: as much as nova-network is asked and answers when an instance gets its address. */
export const QUESTION = { instance_id: 42, project_id: 'apollo', host: 'node1', hostname: 'web-1.novalocal' };
export const ANSWER = {
  network: { id: 1, label: 'private', bridge: 'br100', cidr: '10.0.0.0/24', gateway: '10.0.0.1', dns: ['10.0.0.1'] },
  mac: '02:16:3e:00:00:2a',
  ips: [{ address: '10.0.0.42', netmask: '255.255.255.0' }],
};

export interface BenchRpc {
  allocate(ctx: RequestContext, args: typeof QUESTION): Promise<typeof ANSWER>;
  drop(ctx: RequestContext, args: typeof QUESTION): Promise<void>;
}
export const benchContract = rpcContract<BenchRpc>('bench', {
  allocate: call('allocate'),
  drop: call('drop'),
});

export const SERVER_HOST = 'server';
export const RAW_QUEUE = 'bench_raw';
export const RAW_CAST_QUEUE = 'bench_raw_cast';

export interface Broker {
  host: string;
  port: number;
}
