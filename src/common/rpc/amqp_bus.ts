import { randomUUID } from 'node:crypto';
import { connect, type Channel, type ChannelModel, type ConfirmChannel, type ConsumeMessage } from 'amqplib';
import { atMost, sleep } from '../clock.ts';
import { RpcUnavailable } from '../errors.ts';
import type { Log } from '../log.ts';
import { brokerError, type BrokerAddress } from './broker_error.ts';
import {
  answerInTime,
  type CallOptions,
  type Consumer,
  type Handler,
  type RpcBus,
  type RpcMessage,
  type Target,
} from './bus.ts';
import { queueName } from './memory_bus.ts';
import { decodeMessage, decodeReply, encodeFailure, encodeMessage, encodeResult, msgIdOf } from './message.ts';
import { replyAsNova } from './nova_reply.ts';
import { writeTogether } from './write_together.ts';

export interface AmqpOptions extends BrokerAddress {
  tls: boolean;
  password: string;
  /** Name of the topic exchange. */
  exchange: string;
  durable: boolean;
  /** Attempts at start; 0: for ever. A bus that was connected once tries for ever. */
  max_retries: number;
  retry_interval_s: number;
  retry_backoff_s: number;
  response_timeout_ms: number;
  log: Log;
}

interface Waiting {
  resolve(reply: Buffer): void;
  reject(err: Error): void;
}
interface Subscription {
  topic: string;
  host: string;
  handler: Handler;
  prefetch: number;
  channel: Channel | undefined;
  tags: string[];
  under_way: Set<Promise<void>>;
  stopped: boolean;
}
/** One life of the connection. */
interface Link {
  connection: ChannelModel;
  /** Calls and replies. */
  plain: Channel;
  /** Casts: the broker says that it has them. */
  confirmed: ConfirmChannel;
  reply_queue: string;
  closed: boolean;
  /** While the broker is short of memory or disk, and takes nothing: resolves when it takes messages again, or at the end. */
  blocked: Promise<void> | undefined;
  /** Fanout exchanges that are declared. */
  fanouts: Set<string>;
}

const RETRY_CAP_S = 30;
const HEARTBEAT_S = 10;
/** What a broker gets to say good-bye. */
const CLOSE_MS = 3000;
const DEFAULT_PREFETCH = 64;

/**
 * RabbitMQ. Topology and envelope are Nova's (topic exchange `nova`, queues `topic` and `topic.host`, `topic_fanout`), but
 * one exclusive reply queue a process with correlation ids in place of a queue a call, casts are persistent, confirmed and
 * mandatory, and messages are acknowledged when their handler has ended. It reconnects for ever and then declares everything again.
 * Callers of 2011 (a `_msg_id` and no reply-to property) get their answer on the direct exchange of that name.
 */
export class AmqpBus implements RpcBus {
  readonly #o: AmqpOptions;
  #link: Link | undefined;
  #linked!: Promise<Link>;
  #closing = false;
  readonly #subscriptions = new Set<Subscription>();
  readonly #waiting = new Map<string, Waiting>();
  readonly #listeners: (() => void)[] = [];
  readonly #casts = new Map<string, (err: Error) => void>();
  readonly #stop = new AbortController();

  private constructor(options: AmqpOptions) {
    this.#o = options;
  }

  /** Returns connected, or still trying when the broker is away; with `max_retries` set, fails after that many. @throws RpcUnavailable */
  static async connect(options: AmqpOptions): Promise<AmqpBus> {
    const bus = new AmqpBus(options);
    const failed_once = bus.#connectAgain(options.max_retries);
    await (options.max_retries > 0 ? bus.#linked : Promise.race([bus.#linked, failed_once]));
    return bus;
  }

  get connected(): boolean {
    return this.#link !== undefined && !this.#link.blocked;
  }
  onReconnect(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** @returns resolves when the first attempt failed */
  #connectAgain(max_retries: number): Promise<void> {
    return new Promise((onFailure) => {
      this.#linked = this.#connectLoop(max_retries, onFailure);
      this.#linked.catch(() => undefined); // whoever waits for it is told
    });
  }

  async #connectLoop(max_retries: number, onFailure: () => void): Promise<Link> {
    const { host, port, retry_interval_s, retry_backoff_s, log } = this.#o;
    let told = '';
    for (let attempt = 1; ; attempt++) {
      try {
        const link = await this.#open();
        for (const subscription of this.#subscriptions) await this.#subscribe(link, subscription);
        if (link.closed) throw new RpcUnavailable('the connection broke as soon as it was made');
        if (this.#closing) {
          await link.connection.close();
          throw new RpcUnavailable('the bus is closed');
        }
        this.#link = link;
        if (attempt > 1) log.info({ host, port }, 'connected to the message broker');
        for (const listener of this.#listeners) listener();
        return link;
      } catch (err) {
        onFailure();
        if (this.#closing) throw new RpcUnavailable('the bus is closed');
        const why = brokerError(err, this.#o);
        if (max_retries > 0 && attempt >= max_retries) throw why;
        if (why.message !== told) log.warn({ why: why.message, err }, 'message broker not reached, trying on');
        told = why.message;
        const wait_s = Math.min(retry_interval_s + retry_backoff_s * (attempt - 1), RETRY_CAP_S);
        const waited = sleep(wait_s * 1000 * (0.5 + Math.random() / 2), this.#stop.signal);
        await waited.catch(() => undefined); // ended by close(), which the next line sees
        if (this.#closing) throw new RpcUnavailable('the bus is closed', { cause: err });
      }
    }
  }

  async #open(): Promise<Link> {
    const { host, port, tls, username, password, vhost, exchange, durable } = this.#o;
    const connection = await connect(
      { protocol: tls ? 'amqps' : 'amqp', hostname: host, port, username, password, vhost, heartbeat: HEARTBEAT_S },
      { timeout: 10_000, clientProperties: { connection_name: `nova ${process.pid}` } },
    );
    writeTogether(connection);
    connection.on('error', (err: Error) => this.#o.log.warn({ err }, 'message broker connection broke'));
    try {
      const plain = this.#guarded(await connection.createChannel(), connection);
      const confirmed = this.#guarded(await connection.createConfirmChannel(), connection) as ConfirmChannel;
      await plain.assertExchange(exchange, 'topic', { durable, autoDelete: false });
      const { queue } = await plain.assertQueue('', { exclusive: true, autoDelete: true, durable: false });
      await plain.consume(queue, (message) => this.#onReply(message), { noAck: true });
      plain.on('return', (message: ConsumeMessage) => this.#onReturn(message));
      confirmed.on('return', (message: ConsumeMessage) => this.#onReturn(message));
      const link: Link = {
        connection,
        plain,
        confirmed,
        reply_queue: queue,
        closed: false,
        blocked: undefined,
        fanouts: new Set(),
      };
      connection.on('close', () => this.#onClose(link));
      connection.on('blocked', (reason: string) => this.#onBlocked(link, reason));
      return link;
    } catch (err) {
      await connection.close().catch(() => undefined); // the first error is the one to tell
      throw err;
    }
  }

  /** A channel that broke takes the connection with it: one way to recover, not two. */
  #guarded<C extends Channel>(channel: C, connection: ChannelModel): C {
    channel.on('error', (err: Error) => {
      this.#o.log.warn({ err }, 'message channel broke');
      connection.close().catch(() => undefined); // closing a connection that is closing is no news
    });
    return channel;
  }

  #onClose(link: Link): void {
    link.closed = true;
    if (this.#link !== link) return; // it was not ours yet: who makes it goes on trying
    this.#link = undefined;
    const lost = new RpcUnavailable('the connection to the message broker broke before the answer came');
    for (const waiting of this.#waiting.values()) waiting.reject(lost);
    this.#waiting.clear();
    if (this.#closing) return;
    this.#o.log.warn({ host: this.#o.host }, 'message broker went away, connecting again');
    void this.#connectAgain(0);
  }

  /** What is published into a blocked connection waits in this process, out of reach: it is not published before. */
  #onBlocked(link: Link, reason: string): void {
    if (link.blocked) return; // by another alarm
    const { host, log } = this.#o;
    log.warn({ host, reason }, 'message broker takes no messages for now');
    link.blocked = new Promise((resolve) => {
      const over = () => {
        link.blocked = undefined;
        resolve();
      };
      link.connection.once('close', over);
      link.connection.once('unblocked', () => {
        log.info({ host }, 'message broker takes messages again');
        link.connection.off('close', over);
        over();
        for (const listener of this.#listeners) listener();
      });
    });
  }

  /** The link that takes messages, waited for while there is none. */
  async #ready(): Promise<Link> {
    for (;;) {
      const link = this.#link ?? (await this.#linked);
      if (!link.blocked) return link;
      await link.blocked;
    }
  }

  // ------------------------------------------------------------------ asking

  async call(target: Target, message: RpcMessage, options: CallOptions = {}): Promise<unknown> {
    const timeout_ms = options.timeout_ms ?? this.#o.response_timeout_ms;
    const id = randomUUID().replaceAll('-', '');
    const queue = queueName(target);
    const reply = await answerInTime<Buffer>(
      `${queue} did not answer ${message.method}`,
      { timeout_ms, signal: options.signal },
      (resolve, reject, left_ms) => {
        this.#waiting.set(id, { resolve, reject });
        const ask = (link: Link) => {
          if (!this.#waiting.has(id)) return; // nobody waits any more: it must not be done behind the caller's back
          link.plain.publish(this.#o.exchange, queue, encodeMessage(message, id), {
            contentType: 'application/json',
            contentEncoding: 'utf-8',
            correlationId: id,
            replyTo: link.reply_queue,
            expiration: left_ms(),
            mandatory: true,
          });
        };
        if (this.#link && this.connected) ask(this.#link);
        else this.#ready().then(ask).catch(reject);
      },
    ).finally(() => this.#waiting.delete(id));
    return decodeReply(reply);
  }

  #onReply(message: ConsumeMessage | null): void {
    if (message === null) return void this.#link?.connection.close().catch(() => undefined); // our queue went: start over
    this.#waiting.get(String(message.properties.correlationId))?.resolve(message.content);
  }

  /** A mandatory message that no queue took. */
  #onReturn(message: ConsumeMessage): void {
    const err = new RpcUnavailable(`nobody serves the queue ${message.fields.routingKey}; is that daemon running?`);
    this.#waiting.get(String(message.properties.correlationId))?.reject(err);
    this.#casts.get(String(message.properties.messageId))?.(err);
  }

  async cast(target: Target, message: RpcMessage): Promise<void> {
    const link = await this.#ready();
    const id = randomUUID();
    try {
      await new Promise<void>((resolve, reject) => {
        this.#casts.set(id, reject); // a return comes before its confirm
        link.confirmed.publish(
          this.#o.exchange,
          queueName(target),
          encodeMessage(message),
          {
            contentType: 'application/json',
            contentEncoding: 'utf-8',
            persistent: true,
            mandatory: true,
            messageId: id,
          },
          (err: unknown) =>
            err ? reject(new RpcUnavailable('the broker did not take the message', { cause: err })) : resolve(),
        );
      });
    } finally {
      this.#casts.delete(id);
    }
  }

  async fanout(topic: string, message: RpcMessage): Promise<void> {
    const link = await this.#ready();
    if (!link.fanouts.has(topic)) {
      link.fanouts.add(topic);
      // What the broker says of it is not waited for: it takes the two in order, and a refusal breaks the channel.
      link.plain
        .assertExchange(`${topic}_fanout`, 'fanout', { durable: false, autoDelete: false })
        .catch((err: unknown) => this.#o.log.warn({ err, topic }, 'fanout exchange not declared'));
    }
    link.plain.publish(`${topic}_fanout`, topic, encodeMessage(message), { contentType: 'application/json' });
  }

  // --------------------------------------------------------------- answering

  async consume(topic: string, host: string, handler: Handler, options: { prefetch?: number } = {}): Promise<Consumer> {
    const subscription: Subscription = {
      topic,
      host,
      handler,
      prefetch: options.prefetch ?? DEFAULT_PREFETCH,
      channel: undefined,
      tags: [],
      under_way: new Set(),
      stopped: false,
    };
    const link = this.#link;
    this.#subscriptions.add(subscription);
    if (link)
      await this.#subscribe(link, subscription).catch((err: unknown) => {
        this.#o.log.warn({ err, topic }, 'not subscribed, the next connection does it');
        return link.connection.close().catch(() => undefined); // it is closed where it broke
      });
    return {
      stop: async () => {
        subscription.stopped = true;
        this.#subscriptions.delete(subscription);
        const { channel, tags } = subscription;
        const broken = (err: unknown) => this.#o.log.debug({ err }, 'the broker went away before its consumers');
        // A broker that takes no messages would not answer these.
        if (channel && this.connected) await Promise.all(tags.map((tag) => channel.cancel(tag))).catch(broken);
        await Promise.allSettled(subscription.under_way);
        if (channel && this.connected) await channel.close().catch(broken);
      },
    };
  }

  async #subscribe({ connection }: Link, subscription: Subscription): Promise<void> {
    const { topic, host, prefetch } = subscription;
    const { exchange, durable } = this.#o;
    const channel = this.#guarded(await connection.createChannel(), connection);
    await channel.prefetch(prefetch);
    const fanout = `${topic}_fanout_${randomUUID().replaceAll('-', '')}`;
    await channel.assertExchange(`${topic}_fanout`, 'fanout', { durable: false, autoDelete: false });
    await channel.assertQueue(fanout, { exclusive: true, autoDelete: true, durable: false });
    await channel.bindQueue(fanout, `${topic}_fanout`, topic);
    for (const queue of [topic, `${topic}.${host}`]) {
      await channel.assertQueue(queue, { durable, autoDelete: false, exclusive: false });
      await channel.bindQueue(queue, exchange, queue);
    }
    subscription.channel = channel;
    subscription.tags = [];
    for (const queue of [topic, `${topic}.${host}`, fanout]) {
      const { consumerTag } = await channel.consume(queue, (message) => {
        if (message === null) {
          // The broker dropped the queue (deleted, or its node went): everything is declared anew.
          connection.close().catch(() => undefined);
          return;
        }
        if (subscription.stopped) return; // not acknowledged: it comes again
        const work = this.#serve(channel, subscription, message);
        subscription.under_way.add(work);
        void work.finally(() => subscription.under_way.delete(work));
      });
      subscription.tags.push(consumerTag);
    }
  }

  /** Never throws: an exception in here would close the channel. */
  async #serve(channel: Channel, subscription: Subscription, message: ConsumeMessage): Promise<void> {
    let reply: Buffer;
    let msg_id: string | undefined;
    try {
      const envelope = decodeMessage(message.content);
      msg_id = envelope.msg_id;
      reply = encodeResult(await subscription.handler(envelope));
    } catch (err) {
      msg_id ??= msgIdOf(message.content);
      reply = encodeFailure(err);
      if (msg_id === undefined)
        this.#o.log.warn({ err, queue: message.fields.routingKey }, 'message without a reply address failed');
    }
    try {
      const { replyTo, correlationId = '' } = message.properties as { replyTo?: string; correlationId?: string };
      if (replyTo !== undefined)
        channel.sendToQueue(replyTo, reply, { correlationId, contentType: 'application/json' });
      else if (msg_id !== undefined) await replyAsNova((await this.#ready()).connection, msg_id, reply, this.#o.log);
      channel.ack(message);
    } catch (err) {
      this.#o.log.warn({ err }, 'answer not sent; the message comes again or its caller times out');
    }
  }

  async close(): Promise<void> {
    this.#closing = true;
    this.#stop.abort();
    const link = this.#link;
    this.#link = undefined;
    for (const waiting of this.#waiting.values()) waiting.reject(new RpcUnavailable('the bus is closed'));
    if (!link) return;
    const closed = link.connection.close();
    const broken = (err: unknown) => this.#o.log.debug({ err }, 'broker closed first');
    await atMost(CLOSE_MS, closed.catch(broken)); // one that hangs would have us wait for ever
  }
}
