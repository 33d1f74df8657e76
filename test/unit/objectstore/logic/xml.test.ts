import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseStringPromise } from 'xml2js';
import { document, errorDocument } from '../../../../src/objectstore/logic/xml.ts';

test('what is written can be read, whatever the texts hold', async () => {
  const text = `<&>"' é 日本 \u{1f600} ]]>`;
  const xml = document('Root', { A: text, B: [{ C: 1 }, { C: true }], D: { E: '' }, F: null, G: undefined });
  assert.deepEqual(await parseStringPromise(xml, { ignoreAttrs: true }), {
    Root: { A: [text], B: [{ C: ['1'] }, { C: ['true'] }], D: [{ E: [''] }] },
  });
});

test("documents carry Nova's namespace, errors none", () => {
  assert.ok(
    document('ListBucketResult', {}).startsWith(
      '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://doc.s3.amazonaws.com/2006-03-01">',
    ),
  );
  assert.equal(
    errorDocument({ Code: 'NoSuchKey' }),
    '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code></Error>',
  );
});
