import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execute } from '../../src/common/execute.ts';
import type { Credentials } from '../rigs/ec2_client.ts';
import { tempDir, type Scope } from '../rigs/tmp.ts';

/** The clients that Debian ships, unmodified: the AWS command line of 2022, and boto, which the tools of 2011 were made of. */
const AWS = '/usr/bin/aws';
const PYTHON = '/usr/bin/python3';

/** For a test's `skip`. */
export const lacksClients = (): string | false =>
  [AWS, '/usr/lib/python3/dist-packages/boto'].filter((path) => !existsSync(path)).map((path) => `needs ${path}`)[0] ??
  false;

export interface Clients {
  /** `aws ec2 WORDS`. @returns what it prints as text. @throws ProcessExecutionError with what it says */
  aws(...words: string[]): Promise<string>;
  /** Lines of Python in which `ec2` is a connection, and `until(what, ask)` polls. @returns what it prints */
  boto(script: string): Promise<string>;
}

const CONNECT = `
import os, sys, time
from urllib.parse import urlparse
import boto
from boto.ec2.regioninfo import RegionInfo
url = urlparse(os.environ['EC2_URL'])
ec2 = boto.connect_ec2(os.environ['EC2_ACCESS_KEY'], os.environ['EC2_SECRET_KEY'], is_secure=False, port=url.port, path=url.path,
                       region=RegionInfo(None, 'nova', url.hostname))
def until(what, ask, seconds=180):
    end = time.time() + seconds
    while True:
        got = ask()
        if got: return got
        if time.time() > end: sys.exit('not in %d s: %s' % (seconds, what))
        time.sleep(0.2)
def volume(id): return ec2.get_all_volumes([id])[0]
`;

export function clients(t: Scope, who: Credentials): Clients {
  const dir = tempDir(t, 'clients');
  writeFileSync(join(dir, 'cloud.py'), CONNECT);
  const run = async (argv: readonly string[], env: Record<string, string>) =>
    (await execute([...argv], { cwd: dir, env: { HOME: dir, ...env }, timeout_ms: 300_000 })).stdout.trim();
  const keys = { AWS_ACCESS_KEY_ID: who.access, AWS_SECRET_ACCESS_KEY: who.secret, AWS_DEFAULT_REGION: 'nova' };
  return {
    aws: (...words) =>
      run([AWS, '--endpoint-url', who.url, '--output', 'text', 'ec2', ...words], { ...keys, AWS_PAGER: '' }),
    boto(script) {
      const file = join(dir, 'script.py');
      writeFileSync(file, `from cloud import *\n${script}`);
      const env = { PYTHONPATH: dir, EC2_URL: who.url, EC2_ACCESS_KEY: who.access, EC2_SECRET_KEY: who.secret };
      return run([PYTHON, '-W', 'ignore', file], env);
    },
  };
}
