import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { Transform } from 'node:stream';
import { sleep } from '../../../common/clock.ts';
import { frameRules, type FramePlan } from '../../logic/guest_frames.ts';
import { guestEnd, hostEnd } from './command_line.ts';

/**
 * A program of its own: it stands between the cards of one guest and QEMU's user-mode network, and rewrites and drops
 * frames as guest_frames.ts says. It runs in the guest's folder, outlives nova-compute as QEMU does, and ends with
 * QEMU. Should it end alone, the guest has no network until nova-compute looks at its guests again and starts another.
 *
 *     node guest_net.js FOLDER '[{"gateway": "10.0.0.1", "metadata": "10.0.0.253"}]'      one plan a card
 */
async function main(plans: readonly FramePlan[]): Promise<void> {
  await Promise.race(plans.map((plan, index) => joinCard(plan, index)));
}

/** Ends when one of QEMU's two sockets does. */
async function joinCard(plan: FramePlan, index: number): Promise<void> {
  const rules = frameRules(plan, () => performance.now());
  const [guest, host] = await Promise.all([open(guestEnd(index)), open(hostEnd(index))]);
  await Promise.race([pipeline(guest, frames(rules.fromGuest), host), pipeline(host, frames(rules.toGuest), guest)]);
}

/** QEMU makes its sockets before it tells of its start, so there is no long wait. */
async function open(path: string): Promise<Socket> {
  for (let attempt = 1; ; attempt++) {
    const socket = connect(path);
    try {
      await once(socket, 'connect');
      return socket;
    } catch (err) {
      if (attempt === 50) throw err;
      await sleep(100);
    }
  }
}

const LENGTH_BYTES = 4; // QEMU puts a frame's length before it, big-endian

/** Lets through the frames that `pass` allows, as it left them. */
function frames(pass: (frame: Uint8Array) => boolean): Transform {
  let rest: Buffer = Buffer.alloc(0);
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      let at = 0;
      while (bytes.length - at >= LENGTH_BYTES) {
        const end = at + LENGTH_BYTES + bytes.readUInt32BE(at);
        if (end > bytes.length) break;
        if (pass(bytes.subarray(at + LENGTH_BYTES, end))) this.push(bytes.subarray(at, end));
        at = end;
      }
      rest = bytes.subarray(at);
      done();
    },
  });
}

const [folder = '.', plans = '[]'] = process.argv.slice(2);
process.chdir(folder);
// Whatever ends it, QEMU's end above all, it has nobody to tell: the exit code is for who runs it by hand.
await main(JSON.parse(plans) as FramePlan[]).then(
  () => process.exit(0),
  () => process.exit(1),
);
