import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DryRunOperation, ec2Error, InvalidAction } from '../../../../src/api/ec2/errors.ts';
import { RequestEntityTooLarge } from '../../../../src/api/body.ts';
import * as nova from '../../../../src/common/errors.ts';

const codeOf = (err: unknown) => {
  const { code, status } = ec2Error(err);
  return `${status} ${code}`;
};

test('an error goes out under the code that clients of AWS branch on', () => {
  assert.equal(codeOf(new nova.InstanceNotFound('x')), '400 InvalidInstanceID.NotFound');
  assert.equal(codeOf(new nova.ImageNotFound('x')), '400 InvalidAMIID.NotFound');
  assert.equal(codeOf(new nova.KeyPairNotFound('x')), '400 InvalidKeyPair.NotFound');
  assert.equal(codeOf(new nova.KeyPairExists('x')), '400 InvalidKeyPair.Duplicate');
  assert.equal(codeOf(new nova.SecurityGroupNotFound('x')), '400 InvalidGroup.NotFound');
  assert.equal(codeOf(new nova.InstanceLimitExceeded('x')), '400 InstanceLimitExceeded');
  assert.equal(codeOf(new nova.IdempotentParameterMismatch('x')), '400 IdempotentParameterMismatch');
  assert.equal(codeOf(new nova.NoValidHost('x')), '400 InsufficientInstanceCapacity');
  assert.equal(codeOf(new nova.RequestExpired('x')), '400 RequestExpired');
  assert.equal(codeOf(new nova.MissingParameter('x')), '400 MissingParameter');
  assert.equal(codeOf(new InvalidAction('x')), '400 InvalidAction');
  assert.equal(codeOf(new nova.PolicyNotAuthorized('x')), '401 UnauthorizedOperation');
  assert.equal(codeOf(new nova.AuthFailure('x')), '403 AuthFailure');
  assert.equal(codeOf(new nova.SignatureDoesNotMatch('x')), '403 SignatureDoesNotMatch');
  assert.equal(codeOf(new nova.RpcTimeout('x')), '503 Unavailable');
  assert.equal(codeOf(new DryRunOperation('x')), '412 DryRunOperation');
  assert.equal(codeOf(new RequestEntityTooLarge('x')), '413 RequestEntityTooLarge');
});

test('a class without a code of its own goes by the nearest class above it', () => {
  class VolumeIsOnFire extends nova.Conflict {}

  assert.equal(codeOf(new VolumeIsOnFire('x')), '400 IncorrectState');
});

test('of a fault of ours the client learns nothing but that it is one', () => {
  for (const err of [new TypeError('secret'), new nova.RemoteError('KeyError', 'secret', ['secret']), 'secret', null]) {
    const { code, status, message } = ec2Error(err);
    assert.equal(`${status} ${code}`, '500 InternalError');
    assert.doesNotMatch(message, /secret|TypeError/);
  }
});
