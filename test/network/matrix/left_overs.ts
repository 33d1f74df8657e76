import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { at, ec2 } from '../../rigs/ec2_client.ts';
import type { Host } from '../../rigs/netns.ts';
import { until } from '../../until.ts';
import type { RealCloud, RealGuest } from '../real_cloud.ts';

/** Of guests that are gone: on the hosts, in the files of DHCP servers, in the database. */
export async function nothingIsLeft(cloud: RealCloud, guests: readonly RealGuest[], floating: string): Promise<void> {
  const { db, ann } = cloud;
  const marks = [...guests.flatMap(({ address, mac, tap, ec2_id, id }) => [`${address}/`, `${address} `, mac, tap, ec2_id, `instance-${ec2_id.slice(2)}`, `inst-${id.toString(16)} `]), `${floating}/`]; // prettier-ignore
  for (const host of cloud.nodes)
    await until(
      `${host.name} holds nothing of them`,
      async () => (await tracesOn(host, marks)).length === 0,
      async () => (await tracesOn(host, marks)).join('\n'),
    );

  const ids = guests.map(({ id }) => id);
  const fixed = db.selectFrom('fixed_ips').select('address').where('instance_id', 'in', ids);
  await until('their leases have ended', async () => (await fixed.execute()).length === 0, () => cloud.manage('fixed', 'list')); // prettier-ignore
  const cards = db.selectFrom('virtual_interfaces').select('address').where('instance_id', 'in', ids);
  assert.deepEqual(await cards.execute(), []);
  const led = db.selectFrom('floating_ips').select('address').where('fixed_ip_id', 'is not', null);
  assert.deepEqual(await led.execute(), []);
  const jobs = db.selectFrom('jobs').select(['topic', 'method', 'error']).where('state', '!=', 'done');
  assert.deepEqual(await jobs.execute(), []);
  for (const address of at(await ec2(ann, 'DescribeAddresses'), 'addressesSet') === '' ? [] : [floating])
    await ec2(ann, 'ReleaseAddress', { PublicIp: address });
  const owned = db.selectFrom('floating_ips').select('address').where('project_id', 'is not', null);
  assert.deepEqual(await owned.execute(), []);
}

/** Lines of a host that have one of these words in them, or that only a host with guests has. */
async function tracesOn(host: Host, marks: readonly string[]): Promise<string[]> {
  const said = async (...argv: string[]) => (await host.exec(argv)).stdout;
  const texts = [
    await said('ip', 'addr'),
    await said('ip', 'route'),
    await said('iptables-save'),
    await said('ebtables-save'),
    await said('ipset', 'list'),
    await said('ps', '-eo', 'args'),
    ...filesIn(join(host.dir, 'networks')),
    ...filesIn(join(host.dir, 'instances')),
  ];
  const of_guests =
    /nova-compute-(inst|from)-|nova-compute-sg-[0-9a-f]+ |physdev-(?:in|out) nova[0-9a-f]|Name: nova-sg|qemu-system/;
  return texts.flatMap((text) =>
    text.split('\n').filter((line) => of_guests.test(line) || marks.some((mark) => `${line} `.includes(mark))),
  );
}

/** Of projects without instances no host keeps a VLAN, bridge or DHCP server for long, and others may have their networks. */
export async function networksAreGivenBack(cloud: RealCloud): Promise<void> {
  await cloud.passPeriodically();
  for (const host of cloud.nodes) {
    const left = async () => {
      const texts = [await host.exec(['ip', 'link']), await host.exec(['ps', '-eo', 'args'])].map(
        ({ stdout }) => stdout,
      );
      return texts.join('').match(/^.*(vlan\d|br10\d).*$/gm) ?? [];
    };
    await until(`${host.name} has no VLAN`, async () => (await left()).length === 0, async () => (await left()).join('\n')); // prettier-ignore
  }
  const owned = cloud.db.selectFrom('networks').select(['cidr', 'project_id']).where('project_id', 'is not', null);
  assert.deepEqual(await owned.execute(), []);
}

/** Each file as its path and text; what is no text is its path. */
function filesIn(dir: string): string[] {
  if (!existsSync(dir)) return [];
  const entries = readdirSync(dir, { recursive: true, withFileTypes: true });
  return entries
    .filter((one) => !one.parentPath.includes('_base'))
    .map((entry) => {
      const path = join(entry.parentPath, entry.name);
      return entry.isFile() ? `${path}\n${readFileSync(path, 'utf8')}` : path;
    });
}
