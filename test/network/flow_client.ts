import { connect } from 'node:net';

/**
 * A program: one TCP connection to an echo server, over which numbers go out all the time, four bytes each, and are
 * compared as they come back. At SIGTERM it sends no more, waits for what is still under way, and prints how many there
 * were. It ends with 1, and says why, when the connection ends before, or a byte is not the one that is due.
 *
 *     node flow_client.js HOST PORT
 */
const EVERY_MS = 5;
const [host = '', port = ''] = process.argv.slice(2);

let sent = 0;
let returned = 0;
let over = false;
let part = Buffer.alloc(0);

function end(why: string | null): never {
  console.log(JSON.stringify({ sent, returned, why }));
  process.exit(why === null ? 0 : 1);
}

const socket = connect({ host, port: Number(port) });
socket.on('error', (err) => end(err.message));
socket.on('close', () => end('the connection was closed'));
socket.on('connect', () => {
  console.log('connected');
  setInterval(() => {
    if (over) return;
    const number = Buffer.alloc(4);
    number.writeUInt32BE(sent++);
    socket.write(number);
  }, EVERY_MS);
});
socket.on('data', (bytes) => {
  part = Buffer.concat([part, bytes]);
  while (part.length >= 4) {
    const number = part.readUInt32BE();
    if (number !== returned) end(`${number} came where ${returned} was due`);
    returned++;
    part = part.subarray(4);
  }
  if (over && returned === sent) end(null);
});
process.on('SIGTERM', () => {
  over = true;
  if (returned === sent) end(null);
  setTimeout(() => end('not all came back in 180 s'), 180_000);
});
