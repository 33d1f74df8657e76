import { closeSync, createReadStream } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { S3Error } from '../logic/errors.ts';
import { parseRange, type ByteRange } from '../logic/ranges.ts';
import type { OpenObject } from '../drivers/objects.ts';
import { sendHead, type HeaderValues, type S3Call } from './call.ts';

/** Bytes read from a file at once: with the default of 64 KB a large object goes out at half the speed. */
const READ_BYTES = 512 * 1024;

/** Sends an opened object, or the range that the request asks for, and closes it. @throws S3Error InvalidRange */
export async function sendObject(
  answer: Pick<S3Call, 'req' | 'res' | 'request_id'>,
  object: OpenObject,
  headers: HeaderValues,
): Promise<void> {
  const { req, res } = answer;
  const { size } = object.info;
  const range = req.headers.range === undefined ? null : parseRange(req.headers.range, size);
  if (range === 'none') {
    if ('fd' in object) closeSync(object.fd);
    res.setHeader('Content-Range', `bytes */${size}`);
    throw new S3Error('InvalidRange', `The range ${req.headers.range} holds none of the object's ${size} bytes.`);
  }
  if (range) {
    headers['Content-Range'] = `bytes ${range.start}-${range.end}/${size}`;
    headers['Content-Length'] = range.end - range.start + 1;
    sendHead(answer, 206, headers);
  } else {
    headers['Content-Length'] = size;
    sendHead(answer, 200, headers);
  }
  if ('bytes' in object) res.end(range ? object.bytes.subarray(range.start, range.end + 1) : object.bytes);
  else await stream(object.fd, range, size, res);
}

async function stream(fd: number, range: ByteRange | null, size: number, res: ServerResponse): Promise<void> {
  const { start, end } = range ?? { start: 0, end: size - 1 };
  await pipeline(createReadStream('', { fd, start, end, highWaterMark: READ_BYTES }), res);
}
