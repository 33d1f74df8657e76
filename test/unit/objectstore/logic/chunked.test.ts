import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChunkedDecoder } from '../../../../src/objectstore/logic/chunked.ts';

/** Data and trailers of a body that comes in pieces of `step` bytes. */
function decode(body: string, step = body.length): { data: string; trailers: Record<string, string> } {
  const decoder = new ChunkedDecoder();
  const bytes = Buffer.from(body);
  let data = '';
  let trailers = {};
  for (let at = 0; at < bytes.length; at += step)
    for (const event of decoder.push(bytes.subarray(at, at + step))) {
      if (event.kind === 'data') data += event.bytes.toString();
      if (event.kind === 'trailers') trailers = Object.fromEntries(event.trailers);
    }
  decoder.end();
  return { data, trailers };
}

const SIGNATURE = 'a'.repeat(64);
const BODY =
  `5;chunk-signature=${SIGNATURE}\r\nhello\r\n1;chunk-signature=${SIGNATURE}\r\n\n\r\n` +
  `0;chunk-signature=${SIGNATURE}\r\nX-Amz-Checksum-Crc32: AAAAAA==\r\nx-amz-trailer-signature:b\r\n\r\n`;

test('a body in chunks comes out whole, in whatever pieces it arrives', () => {
  for (let step = 1; step <= BODY.length; step++)
    assert.deepEqual(decode(BODY, step), {
      data: 'hello\n',
      trailers: { 'x-amz-checksum-crc32': 'AAAAAA==', 'x-amz-trailer-signature': 'b' },
    });
});

test('an empty body is one empty chunk', () => {
  assert.deepEqual(decode('0\r\n\r\n'), { data: '', trailers: {} });
});

test('what is cut off, has no size, or goes on is refused', () => {
  const refused = { code: 'IncompleteBody' };
  assert.throws(() => decode('5\r\nhel'), refused);
  assert.throws(() => decode('5\r\nhello\r\n'), refused);
  assert.throws(() => decode('0\r\n'), refused);
  assert.throws(() => decode('x\r\n'), refused);
  assert.throws(() => decode('-5\r\nhello\r\n0\r\n\r\n'), refused);
  assert.throws(() => decode('2\r\nhello\r\n0\r\n\r\n'), refused);
  assert.throws(() => decode('0\r\n\r\nmore'), refused);
  assert.throws(() => decode('9'.repeat(9000)), refused);
  assert.throws(
    () => decode(`0\r\n${'a:b\r\n'.repeat(1) + Array.from({ length: 30 }, (_, i) => `h${i}:x\r\n`).join('')}\r\n`),
    refused,
  );
});
