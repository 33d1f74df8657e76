import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { promisify } from 'node:util';
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
conf = {'datasource': {'Ec2': {'metadata_urls': [url], 'max_wait': 5, 'timeout': 2}}}
source = DataSourceEc2.DataSourceEc2(conf, None, helpers.Paths({}))
source._cloud_name = cloud_name
assert source.wait_for_metadata_service()
print(json.dumps(source.crawl_metadata(), default=lambda data: data.decode()))
`;

test("cloud-init's Ec2 data source reads everything there is", { skip: needs('cloud-init') }, async (t) => {
  const db = await aDatabase(t);
  const key = { key_name: 'mine', key_data: 'ssh-rsa AAAA mine' };
  const id = await anInstance(db, { ...key, user_data: Buffer.from('#!/bin/sh\n').toString('base64') });
  await aFixedIp(db, { network_id: await aNetwork(db), instance_id: id, address: '127.0.0.1' });
  const server = createServer(metadataHandler({ db, flags: Flags.of(), log: silentLog })).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  for (const cloud_name of ['unknown', 'aws']) {
    const { stdout } = await promisify(execFile)('/usr/bin/python3', ['-c', CRAWL, url, cloud_name]);

    const { 'meta-data': data, 'user-data': user_data } = JSON.parse(stdout) as Record<string, Record<string, unknown>>;
    assert.equal(data?.['instance-id'], `i-${id.toString(16).padStart(8, '0')}`);
    assert.deepEqual(data['public-keys'], { mine: 'ssh-rsa AAAA mine' });
    assert.deepEqual(data['placement'], { 'availability-zone': 'unknown zone' });
    assert.equal(data['local-ipv4'], '127.0.0.1');
    assert.equal(user_data, '#!/bin/sh\n');
  }
});
