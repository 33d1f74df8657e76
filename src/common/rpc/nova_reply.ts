import type { ChannelModel } from 'amqplib';
import type { Log } from '../log.ts';

/** Answers a caller of 2011. On a channel of its own, since publishing to an exchange whose caller left closes the channel. */
export async function replyAsNova(connection: ChannelModel, msg_id: string, reply: Buffer, log: Log): Promise<void> {
  const channel = await connection.createChannel();
  const left = (err: unknown) => log.debug({ err }, 'a caller left before its answer');
  channel.on('error', left);
  const properties = { contentType: 'application/json', contentEncoding: 'utf-8' };
  channel.publish(msg_id, msg_id, reply, properties);
  // Diablo reads up to an end marker; Cactus has gone by then, and the broker drops it.
  channel.publish(msg_id, msg_id, Buffer.from('{"result": null, "failure": null}'), properties);
  await channel.close().catch(left);
}
