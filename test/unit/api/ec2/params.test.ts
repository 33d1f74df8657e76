import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  base64,
  bool,
  cidr,
  decodeParams,
  imageId,
  instanceId,
  int,
  ipv4,
  list,
  optional,
  str,
  struct,
  word,
  type Param,
  type Params,
  type Values,
} from '../../../../src/api/ec2/params.ts';
import { nest, parseParams } from '../../../../src/api/ec2/query.ts';
import { ImageNotFound, InstanceNotFound, InvalidInput, MissingParameter } from '../../../../src/common/errors.ts';

const none = Buffer.alloc(0);
const decode = <P extends Params>(params: P, query: string): Values<P> =>
  decodeParams(params, nest(parseParams(query, none)));
const one = <T>(param: Param<T>, value: string): T => decode({ X: param }, `X=${encodeURIComponent(value)}`).X;

test('parameters come out with the types that run declares', () => {
  const values = decode(
    {
      ImageId: imageId(),
      MaxCount: optional(int({ min: 1, max: 100 }), 1),
      KeyName: optional(str()),
      DryRun: optional(bool(), false),
      Placement: optional(struct({ AvailabilityZone: optional(str()) })),
      Filter: list(struct({ Name: str(), Value: list(str()) })),
    },
    'ImageId=ami-0000001f&Filter.10.Name=ten&Filter.2.Name=two&Filter.2.Value.10=b&Filter.2.Value.9=a&Unknown=1' +
      '&Placement.AvailabilityZone=nova',
  );

  const typed: { ImageId: number; MaxCount: number; KeyName: string | undefined; DryRun: boolean } = values;
  assert.equal(typed.ImageId, 31);
  assert.deepEqual(values, {
    ImageId: 31,
    MaxCount: 1,
    KeyName: undefined,
    DryRun: false,
    Placement: { AvailabilityZone: 'nova' },
    Filter: [
      { Name: 'two', Value: ['a', 'b'] },
      { Name: 'ten', Value: [] },
    ],
  });
});

test('a list takes one plain value, and a single value the first of a list', () => {
  const ids = { InstanceId: list(instanceId(), { min: 1 }) };

  assert.deepEqual(decode(ids, 'InstanceId=i-0000000b'), { InstanceId: [11] });
  assert.deepEqual(decode(ids, 'InstanceId.1=i-0000000b&InstanceId.2=i-0000000c'), { InstanceId: [11, 12] });
  assert.deepEqual(decode({ InstanceId: instanceId() }, 'InstanceId.1=i-0000000b'), { InstanceId: 11 });
});

test('twelve and more ids keep the order of their numbers', () => {
  const query = Array.from({ length: 12 }, (_, i) => `InstanceId.${i + 1}=i-${(i + 1).toString(16)}`)
    .reverse()
    .join('&');

  assert.deepEqual(
    decode({ InstanceId: list(instanceId()) }, query).InstanceId,
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
  );
});

test('a key pair named 123, 010 or 1e5 stays text', () => {
  for (const name of ['123', '010', '1e5', 'None', 'True', '0x10']) assert.equal(one(str(), name), name);
});

test('what is missing is named as the client would write it', () => {
  const missing = (params: Params, query: string, name: RegExp) =>
    assert.throws(
      () => decode(params, query),
      (err) => err instanceof MissingParameter && name.test(err.message),
    );

  missing({ KeyName: str() }, '', /KeyName is missing/);
  missing({ KeyName: str() }, 'KeyName=', /KeyName is empty/);
  missing({ InstanceId: list(instanceId(), { min: 1 }) }, '', /InstanceId\.1 is missing/);
  missing({ Filter: list(struct({ Name: str() })) }, 'Filter.3.Value.1=x', /Filter\.3\.Name is missing/);
});

test('an optional parameter sent empty counts as not sent', () => {
  assert.deepEqual(decode({ KeyName: optional(str()), MinCount: optional(int(), 1) }, 'KeyName=&MinCount='), {
    KeyName: undefined,
    MinCount: 1,
  });
  assert.equal(decode({ DisplayName: optional(str({ min: 0 })) }, 'DisplayName=').DisplayName, '');
});

const REFUSED: [string, Param<unknown>, string[]][] = [
  ['int', int({ min: 1, max: 100 }), ['0', '101', '1.5', '0x10', 'ten', '1e2', '99999999999999999999', ' 1']],
  ['bool', bool(), ['yes', '2', 'truth']],
  ['ipv4', ipv4(), ['10.0.0', '10.0.0.256', '10.0.0.1/32', '::1', '010.0.0.1']],
  ['cidr', cidr(), ['10.0.0.0/33', '10.0.0/24', 'any', '10.0.0.0/-1', '::/0']],
  ['instanceId', instanceId(), ['11', 'ami-0000000b', 'i-', 'i-xyz', 'i-0000000b ', 'I-0000000b', 'i-0000000b\n']],
  ['imageId', imageId(), ['i-0000000b', 'emi-1', 'my image']],
  ['word', word(['add', 'remove']), ['ADD', 'del']],
  ['str', str({ max: 5, pattern: /^[a-z]*$/ }), ['abcdef', 'ab-c']],
  ['base64', base64({ max_bytes: 4 }), ['YQ', 'Y Q==?', 'YWJjZGVm', '####', 'YQ=a']],
];
for (const [kind, param, values] of REFUSED) {
  test(`${kind} refuses, with the parameter's name: ${values.map((value) => JSON.stringify(value)).join(' ')}`, () => {
    for (const value of values) {
      assert.throws(
        () => one(param, value),
        (err) => err instanceof InvalidInput && !(err instanceof MissingParameter) && err.message.startsWith('X '),
        value,
      );
    }
  });
}

test('a value is no list, a list is no value, and its items have numbers', () => {
  assert.throws(() => decode({ KeyName: str() }, 'KeyName.1=a&KeyName.2=b'), /KeyName is text .* not a list/);
  assert.throws(() => decode({ KeyName: str() }, 'KeyName.x=a'), InvalidInput);
  assert.throws(() => decode({ X: struct({ A: str() }) }, 'X=1'), /write X\.A/);
  assert.throws(() => decode({ X: list(str()) }, 'X.a=1'), /number the items, X\.1, X\.2/);
  assert.throws(() => decode({ X: list(str(), { max: 2 }) }, 'X.1=a&X.2=b&X.3=c'), /3 items; at most 2/);
});

test('an id larger than the database has is not found, as is any other that is not there', () => {
  assert.equal(one(instanceId(), 'i-7fffffff'), 2 ** 31 - 1);
  for (const id of ['i-80000000', 'i-0123456789abcdef0']) assert.throws(() => one(instanceId(), id), InstanceNotFound);
  assert.throws(() => one(imageId(), 'ami-ffffffff'), ImageNotFound);
});

test('an address range loses its host bits', () => {
  assert.equal(one(cidr(), '10.1.2.3/24'), '10.1.2.0/24');
  assert.equal(one(cidr(), '255.255.255.255/1'), '128.0.0.0/1');
  assert.equal(one(cidr(), '10.1.2.3'), '10.1.2.3/32');
  assert.equal(one(cidr(), '0.0.0.0/0'), '0.0.0.0/0');
});

test('base64 is decoded, line breaks and all, up to its limit in decoded bytes', () => {
  assert.equal(one(base64({ max_bytes: 16384 }), 'I2Nsb3VkLWNv\nbmZpZwo=\n').toString(), '#cloud-config\n');
  assert.equal(one(base64({ max_bytes: 3 }), 'YWJj').length, 3);
  assert.throws(() => one(base64({ max_bytes: 3 }), 'YWJjZA=='), /4 bytes decoded; at most 3/);
});
