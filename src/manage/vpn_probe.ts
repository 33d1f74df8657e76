import { createSocket } from 'node:dgram';
import { randomBytes } from 'node:crypto';

const ASK = 0x38;
const ANSWER = 0x40;
const TIMEOUT_MS = 500;

/**
 * Whether an OpenVPN server answers: 15 bytes (0x38, our id of 8, 6 zeros) are answered by 26 (0x40, its id of 8, 5 bytes,
 * our id, 4 bytes). Source: Nova 2011.2 nova/utils.py, vpn_ping.
 */
export async function vpnAnswers(address: string, port: number, timeout_ms = TIMEOUT_MS): Promise<boolean> {
  const id = randomBytes(8);
  const socket = createSocket('udp4');
  try {
    return await new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(false), timeout_ms);
      const say = (answers: boolean) => {
        clearTimeout(timer);
        resolve(answers);
      };
      socket.on('error', () => say(false)); // no route, or nobody listens
      socket.on('message', (answer) => {
        if (answer.length === 26 && answer[0] === ANSWER && answer.subarray(14, 22).equals(id)) say(true);
      });
      socket.send(Buffer.concat([Buffer.from([ASK]), id, Buffer.alloc(6)]), port, address, (err) => {
        if (err) say(false);
      });
    });
  } finally {
    socket.close();
  }
}
