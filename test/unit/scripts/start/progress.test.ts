import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import test from 'node:test';
import { Progress } from '../../../../scripts/start/progress.ts';

/** What is written to it, with `<0.0 s>` for any seconds. */
function aScreen({ isTTY, columns = 80 }: { isTTY: boolean; columns?: number }) {
  const screen = Object.assign(new PassThrough(), { isTTY, columns });
  const written = () => String(screen.read() ?? '').replace(/ +\d+\.\d s/g, ' <0.0 s>');
  return { progress: new Progress(screen as unknown as NodeJS.WriteStream), written };
}

test('without a terminal each step is one plain line when it is over', async () => {
  const { progress, written } = aScreen({ isTTY: false });

  await progress.run(
    'database',
    async () => 3,
    (images) => `${images} images`,
  );
  progress.begin('booting');
  progress.note('first line\nsecond line');
  progress.done();
  await assert.rejects(
    progress.run('answering', () => Promise.reject(new Error('no answer'))),
    /no answer/,
  );

  assert.deepEqual(written().split('\n'), [
    '  ok  database <0.0 s>  3 images',
    '  ok  booting <0.0 s>  first line',
    '  --  answering <0.0 s>',
    '',
  ]);
});

test('on a terminal the step under way is one line in place, no longer than the terminal is wide', () => {
  const { progress, written } = aScreen({ isTTY: true, columns: 30 });

  progress.begin('booting');
  progress.note('a note that is much longer than the line has room for');
  progress.say('something else');
  const text = written();
  progress.done('');

  const lines = text.split(/\r\x1b\[K|\n/);
  assert.ok(lines.includes('something else'));
  for (const line of lines) assert.ok(line.length < 30, line);
  assert.match(written(), /^\r\x1b\[K {2}ok {2}booting <0\.0 s>\n$/);
});
