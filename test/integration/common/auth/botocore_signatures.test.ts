import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import type { SignedRequest } from '../../../../src/common/auth/claim.ts';
import { readEc2Claim, readS3Claim } from '../../../../src/common/auth/signature.ts';
import { SignatureDoesNotMatch } from '../../../../src/common/errors.ts';

const PYTHON = '/usr/bin/python3'; // Debian's, which has the awscli package with its botocore

/** Prints one JSON list of requests, signed by botocore's own signers. */
const SIGNER = `
import json, sys, awscli
from botocore.auth import SigV4Auth, SigV4QueryAuth, S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
creds = Credentials('akid:proj', 'secret/+key')
out = []
def sign(kind, auth, method, url, data=b'', headers=None):
    request = AWSRequest(method=method, url=url, data=data, headers=headers or {})
    auth.add_auth(request)
    prepared = request.prepare()
    pairs = [[k, v.decode() if isinstance(v, bytes) else v] for k, v in prepared.headers.items()]
    out.append(dict(kind=kind, method=method, url=prepared.url, headers=pairs, body=data.decode()))
form = {'Content-Type': 'application/x-www-form-urlencoded; charset=utf-8'}
for path in ['/', '/services/Cloud', '/services/Cloud/', '/a%20b//c']:
    url = 'http://127.0.0.1:8773' + path
    sign('ec2', SigV4Auth(creds, 'ec2', 'nova'), 'POST', url, b'Action=DescribeInstances&KeyName=a%20b%2A', form)
    sign('ec2', SigV4Auth(creds, 'sts', 'us-east-1'), 'GET', url + '?Action=X&b=%20~%2A&B=1&a=%C3%A9&empty=')
    sign('ec2', SigV4QueryAuth(creds, 'sts', 'us-east-1', expires=60), 'GET', url + '?Action=GetCallerIdentity')
for key in ['/b/plain', '/b/a%20b', '/b/%C3%A9%2B%2A%27%28%29%21', '/b/a//b/../c', '/b/~x_y-z.%25', '/b/a=b&c@d:e,f;g$h']:
    url = 'http://127.0.0.1:3333' + key
    sign('s3', S3SigV4Auth(creds, 's3', 'us-east-1'), 'GET', url + '?list-type=2&prefix=a%2Fb%20c')
    sign('s3', S3SigV4Auth(creds, 's3', 'us-east-1'), 'PUT', url, b'body', {'Content-MD5': 'hBotaJrKa9FhFEdFPCLG/A==', 'x-amz-meta-a': ' two  words '})
    sign('s3', S3SigV4QueryAuth(creds, 's3', 'us-east-1', expires=60), 'GET', url + '?versionId=1')
json.dump(out, sys.stdout)
`;
interface Signed {
  kind: 'ec2' | 's3';
  method: string;
  url: string;
  headers: [string, string][];
  body: string;
}

const why = (() => {
  try {
    execFileSync(PYTHON, ['-c', 'import awscli, botocore'], { stdio: 'pipe' });
    return false;
  } catch {
    return `${PYTHON} cannot import awscli's botocore: apt install awscli`;
  }
})();

test(
  'every request that botocore signs verifies, and no longer when the key or the request changes',
  { skip: why },
  () => {
    const all = JSON.parse(execFileSync(PYTHON, ['-c', SIGNER], { encoding: 'utf8' })) as Signed[];
    assert.equal(all.length, 30);

    for (const signed of all) {
      const [, host = '', path = '', query = ''] = /^http:\/\/([^/]+)([^?]*)\??(.*)$/.exec(signed.url) ?? [];
      const headers: NodeJS.Dict<string[]> = { host: [host] };
      for (const [name, value] of signed.headers) headers[name.toLowerCase()] = [value];
      const request: SignedRequest = { method: signed.method, path, query, headers };
      const claimOf = (given: SignedRequest) =>
        signed.kind === 's3' ? readS3Claim(given, null) : readEc2Claim(given, new Map(), Buffer.from(signed.body));
      const claim = claimOf(request);
      assert.ok(claim, signed.url);

      assert.equal(claim.access_key, 'akid:proj');
      assert.doesNotThrow(
        () => claim.verify('secret/+key', new Date()),
        `${signed.kind} ${signed.method} ${signed.url}`,
      );
      assert.throws(() => claim.verify('secret/+kez', new Date()), SignatureDoesNotMatch);
      const moved = claimOf({ ...request, path: `${path}/x` });
      assert.throws(() => moved?.verify('secret/+key', new Date()), SignatureDoesNotMatch, signed.url);
    }
  },
);
