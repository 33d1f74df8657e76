import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkBucketName, fileOfKey, keyOfFile, parsePath } from '../../../../src/objectstore/logic/keys.ts';

test('the file of a simple key is named like the key', () => {
  for (const key of ['k', 'tiny.img', 'tiny.img.part.12', 'a b', 'é', '日本', '@~#+=,:;', 'a..b', 'x.'])
    assert.equal(fileOfKey(key), key);
});

test('no key is a path: the file is one name that is never hidden, empty or a folder', () => {
  for (const key of [
    '/',
    '..',
    '.',
    '../x',
    'a/../../x',
    '/etc/passwd',
    '.nova',
    '\u0000',
    'a/b/',
    '%2e%2e/x',
    '.%2f',
  ]) {
    const file = fileOfKey(key) ?? assert.fail();
    assert.match(file, /^[^/\0.][^/\0]*$/, key);
  }
});

test('every key comes back from its file name, and no two keys share one', () => {
  const keys = [
    'a/b',
    'a%2Fb',
    'a%2fb',
    'a%252Fb',
    '.a',
    '%2Ea',
    'a',
    'a/',
    '/a',
    '//a',
    '\n',
    '%0A',
    '%',
    '%%',
    '\u007f',
  ];
  const files = keys.map((key) => fileOfKey(key));
  assert.deepEqual(
    files.map((file) => keyOfFile(file ?? '')),
    keys,
  );
  assert.equal(new Set(files).size, keys.length);
});

test('a file that no key is stored as is no object', () => {
  for (const file of ['.hidden', '%2f', '%zz', 'a%', 'a%41', `%long-${'0'.repeat(64)}`])
    assert.equal(keyOfFile(file), null);
});

test('a key longer than a file name may be has no file of its own name', () => {
  assert.equal(fileOfKey('é'.repeat(110)), 'é'.repeat(110));
  assert.equal(fileOfKey('é'.repeat(111)), null);
  assert.equal(fileOfKey('/'.repeat(74)), null);
});

test('a path is split at the first slash behind the bucket and decoded once', () => {
  assert.deepEqual(parsePath('/'), { bucket: null, key: null });
  assert.deepEqual(parsePath('/b'), { bucket: 'b', key: null });
  assert.deepEqual(parsePath('/b/'), { bucket: 'b', key: null });
  assert.deepEqual(parsePath('/b/a/b%2Fc%252F+d//'), { bucket: 'b', key: 'a/b/c%2F+d//' });
  assert.deepEqual(parsePath('/b/../x'), { bucket: 'b', key: '../x' });
  assert.throws(() => parsePath('/b/%ff'), { code: 'InvalidURI' });
  assert.throws(() => parsePath(`/b/${'é'.repeat(513)}`), { code: 'KeyTooLongError' });
});

test('a bucket name cannot climb out of the folder of buckets or hide in it', () => {
  for (const name of ['..', '.', '.nova', '_images', '', 'a/b', 'a\0', 'é', 'a'.repeat(256)])
    assert.throws(() => checkBucketName(name), { code: 'InvalidBucketName' }, name);
  for (const name of ['b', 'My_Bucket-1.x', '9', 'a'.repeat(255)]) assert.equal(checkBucketName(name), name);
  assert.throws(() => parsePath('/%2e%2e/x'), { code: 'InvalidBucketName' });
  assert.throws(() => parsePath('//x'), { code: 'InvalidBucketName' });
});
