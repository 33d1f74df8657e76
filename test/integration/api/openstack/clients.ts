import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Api } from './an_api.ts';

/** A row or a list of them, as the command prints. */
type Printed = Record<string, string>[] & Record<string, string>;

export interface Clients {
  /** @returns what the program printed */
  run(program: string, ...words: string[]): Promise<string>;
  openstack(...words: string[]): Promise<string>;
  /** What `openstack ... -f json` printed. */
  json(...words: string[]): Promise<Printed>;
}

/** The stock clients of Debian, as ann of project apollo. */
export function clientsOf(api: Pick<Api, 'identity'>): Clients {
  const env = {
    PATH: process.env['PATH'],
    HOME: '/dev/null',
    PYTHONWARNINGS: 'ignore',
    OS_AUTH_URL: `${api.identity}/v3`,
    OS_USERNAME: 'ann',
    OS_PASSWORD: 'ann-secret',
    OS_PROJECT_NAME: 'apollo',
    OS_USER_DOMAIN_NAME: 'Default',
    OS_PROJECT_DOMAIN_NAME: 'Default',
  };
  const run = async (program: string, ...words: string[]) =>
    (await promisify(execFile)(program, words, { env })).stdout.trim();
  const openstack = (...words: string[]) => run('openstack', ...words);
  return { run, openstack, json: async (...words) => JSON.parse(await openstack(...words, '-f', 'json')) as Printed };
}
