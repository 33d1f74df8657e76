import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nowText } from '../../../../src/common/clock.ts';
import type { NovaDb } from '../../../../src/common/db/connect.ts';
import { aMember, anEc2Api } from './an_ec2_api.ts';

test('regions are this cloud, or those of --region_list', async (t) => {
  const one = await anEc2Api(t);
  const two = await anEc2Api(t, { flags: { region_list: ['east=10.1.0.1', 'west=10.2.0.1'] } });
  const shown = (xml: { regionInfo: { regionName: string; regionEndpoint: string }[] }) =>
    xml.regionInfo.map(({ regionName, regionEndpoint }) => `${regionName} ${regionEndpoint}`);

  assert.deepEqual(shown((await one.ask('DescribeRegions')).xml), ['nova http://127.0.0.1:8773/services/Cloud']);
  assert.deepEqual(shown((await two.ask('DescribeRegions')).xml), [
    'east http://10.1.0.1:8773/services/Cloud',
    'west http://10.2.0.1:8773/services/Cloud',
  ]);
  assert.deepEqual(shown((await two.ask('DescribeRegions', { RegionName: 'west' })).xml), [
    'west http://10.2.0.1:8773/services/Cloud',
  ]);
  assert.match((await two.ask('DescribeRegions', { RegionName: 'north' })).message ?? '', /there are east, west/);
});

async function aService(db: NovaDb, host: string, availability_zone: string, disabled: number): Promise<void> {
  const now = nowText();
  const columns = { binary: 'nova-compute', topic: 'compute', incarnation: host, agreed_flags: '{}' };
  await db
    .insertInto('services')
    .values({ ...columns, host, availability_zone, disabled, created_at: now, updated_at: now })
    .execute();
}

test('a zone whose services are all disabled is not available', async (t) => {
  const api = await anEc2Api(t);
  await aMember(api.db, 'root', ['cloudadmin']);
  await aService(api.db, 'node1', 'nova', 1);
  await aService(api.db, 'node2', 'nova', 0);
  await aService(api.db, 'node3', 'lab', 1);
  const shown = async (params: Record<string, string>, as = 'ann') =>
    (await api.ask('DescribeAvailabilityZones', params, as)).xml.availabilityZoneInfo.map(
      (zone: { zoneName: string; zoneState: string }) => `${zone.zoneName}: ${zone.zoneState}`,
    );

  assert.deepEqual(await shown({}), ['lab: not available', 'nova: available']);
  assert.deepEqual(await shown({ 'ZoneName.1': 'nova' }), ['nova: available']);
  const verbose = (await shown({ 'ZoneName.1': 'verbose' }, 'root')) as string[];
  assert.deepEqual(
    verbose.map((line) => line.replace(/ \d{4}-.*$/, ' TIME')),
    [
      'nova: available',
      '|- node1: ',
      '| |- nova-compute: disabled :-) TIME',
      '|- node2: ',
      '| |- nova-compute: enabled :-) TIME',
      '|- node3: ',
      '| |- nova-compute: disabled :-) TIME',
    ],
  );
});
