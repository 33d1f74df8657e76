import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import type { NovaDb } from '../../../src/common/db/connect.ts';
import { Flags } from '../../../src/common/flags.ts';
import { silentLog } from '../../../src/common/log.ts';
import { metadataHandler } from '../../../src/api/metadata/app.ts';
import { aDatabase, aFixedIp, anInstance, aNetwork } from '../../builders.ts';
import { needs } from '../../rigs/needs.ts';

/** cloud-init's own Ec2 data source, as a guest of Nova ('unknown') and as one of AWS, which insists on a session token. */
const CRAWL = `
import json, sys
from cloudinit import helpers
from cloudinit.sources import DataSourceEc2
url, cloud_name = sys.argv[1:]
conf = {'datasource': {'Ec2': {'metadata_urls': [url], 'max_wait': 120, 'timeout': 50}}}
source = DataSourceEc2.DataSourceEc2(conf, None, helpers.Paths({}))
source._cloud_name = cloud_name
assert source.wait_for_metadata_service()
print(json.dumps(source.crawl_metadata(), default=lambda data: data.decode()))
`;

/** What cloud-init reads as the guest at 127.0.0.1. */
async function crawl(t: TestContext, db: NovaDb, cloud_name: string): Promise<Record<string, Record<string, unknown>>> {
  const server = createServer(metadataHandler({ db, flags: Flags.of(), log: silentLog })).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const { stdout } = await promisify(execFile)('/usr/bin/python3', ['-c', CRAWL, url, cloud_name]);
  return JSON.parse(stdout) as Record<string, Record<string, unknown>>;
}

test("cloud-init's Ec2 data source reads everything there is", { skip: needs('cloud-init') }, async (t) => {
  const db = await aDatabase(t);
  const key = { key_name: 'mine', key_data: 'ssh-rsa AAAA mine' };
  const id = await anInstance(db, { ...key, user_data: Buffer.from('#!/bin/sh\n').toString('base64') });
  await aFixedIp(db, { network_id: await aNetwork(db), instance_id: id, address: '127.0.0.1' });

  for (const cloud_name of ['unknown', 'aws']) {
    const { 'meta-data': data, 'user-data': user_data } = await crawl(t, db, cloud_name);
    assert.equal(data?.['instance-id'], `i-${id.toString(16).padStart(8, '0')}`);
    assert.deepEqual(data['public-keys'], { mine: 'ssh-rsa AAAA mine' });
    assert.deepEqual(data['placement'], { 'availability-zone': 'unknown zone' });
    assert.equal(data['local-ipv4'], '127.0.0.1');
    assert.equal(user_data, '#!/bin/sh\n');
  }
});

test("cloud-init reads it whatever the project's key pairs are called", { skip: needs('cloud-init') }, async (t) => {
  const db = await aDatabase(t);
  const network_id = await aNetwork(db);
  const names = ['ann/laptop', 'ann/', '1=x', '..', 'a\u2028b', '50% mine?', 'é'];
  const ids: number[] = [];
  for (const key_name of names) ids.push(await anInstance(db, { key_name, key_data: 'ssh-rsa AAAA' }));
  for (const id of ids) await aFixedIp(db, { network_id, instance_id: id, address: `10.0.0.${id + 10}` });
  const shown: Record<string, string> = { 'ann/': 'ann%2F', 'a\u2028b': 'a%E2%80%A8b' };

  for (const [i, name] of names.entries()) {
    const own = db.updateTable('fixed_ips').where('instance_id', '=', ids[i] ?? 0);
    await own.set({ address: '127.0.0.1' }).execute();

    const { 'meta-data': data } = await crawl(t, db, 'unknown');
    await own.set({ address: `10.0.1.${i}` }).execute();

    assert.match(String(data?.['instance-id']), /^i-/, name);
    assert.deepEqual(Object.keys(data?.['public-keys'] as object), [shown[name] ?? name]);
    assert.deepEqual(Object.keys(data?.['mpi'] as object).sort(), ['50% mine?', 'é']);
  }
});
