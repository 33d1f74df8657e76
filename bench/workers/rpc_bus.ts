import { silentLog } from '../../src/common/log.ts';
import { AmqpBus } from '../../src/common/rpc/amqp_bus.ts';
import type { Broker } from './rpc_contract.ts';

/** Connected as a daemon is. */
export const connectBus = ({ host, port }: Broker): Promise<AmqpBus> =>
  AmqpBus.connect({
    host,
    port,
    tls: false,
    username: 'guest',
    password: 'guest',
    vhost: '/',
    exchange: 'nova',
    durable: false,
    max_retries: 5,
    retry_interval_s: 0.2,
    retry_backoff_s: 0.2,
    response_timeout_ms: 60_000,
    log: silentLog,
  });
