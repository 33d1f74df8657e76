import { errorText, RpcUnavailable } from '../errors.ts';

export interface BrokerAddress {
  host: string;
  port: number;
  username: string;
  vhost: string;
}

/** Why a broker was not reached, as amqplib says it, in a sentence that names the flag and what to do. */
export function brokerError(err: unknown, { host, port, username, vhost }: BrokerAddress): RpcUnavailable {
  return new RpcUnavailable(sentence(), { cause: err });

  function sentence(): string {
    const said = errorText(err);
    if (said.includes('ACCESS_REFUSED') || said.includes('ACCESS-REFUSED'))
      return `--rabbit_userid=${username}: the broker at ${host}:${port} refuses this login; correct it or --rabbit_password`;
    if (said.includes('ConnectionOpenOk'))
      return `--rabbit_virtual_host=${vhost}: the broker at ${host}:${port} has none of this name, or keeps ${username} out of it; make it, or correct the flag`;
    if (said.includes('certificate'))
      return `--rabbit_use_ssl: the certificate of the broker at ${host}:${port} is not trusted (${said}); name its CA by NODE_EXTRA_CA_CERTS=FILE in this daemon's environment`;
    if (said.includes('wrong version number'))
      return `--rabbit_use_ssl: what answers at ${host}:${port} speaks no TLS; correct --rabbit_port, or leave the flag out`;
    if (said.includes('Frame size'))
      return `--rabbit_port=${port}: what answers at ${host}:${port} is no AMQP broker; correct the flag or --rabbit_host`;
    if (said.includes('PRECONDITION'))
      return `--rabbit_durable_queues: the broker at ${host}:${port} has a queue or exchange of another kind (${said}); delete it there, or correct the flag`;
    return `--rabbit_host=${host}, --rabbit_port=${port}: no broker answers (${said}); start RabbitMQ there, or correct the flags`;
  }
}
