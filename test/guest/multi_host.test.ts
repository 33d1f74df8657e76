import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { guestImage } from '../../scripts/guest_image.ts';
import { execute } from '../../src/common/execute.ts';
import { Daemon, startDaemon, type FlagFile } from '../rigs/daemon.ts';
import { at, ec2, instancesOf, type Credentials, type Xml } from '../rigs/ec2_client.ts';
import { startLibvirtd } from '../rigs/libvirtd.ts';
import { needs } from '../rigs/needs.ts';
import { startLan, type Host } from '../rigs/netns.ts';
import { startPostgres } from '../rigs/postgres.ts';
import { startRabbitmq } from '../rigs/rabbitmq.ts';
import { projectRoot, type Scope } from '../rigs/tmp.ts';
import { until } from '../until.ts';

const skip = needs(
  'root',
  'nsenter',
  'unshare',
  'ip',
  'rabbitmq-server',
  'postgres',
  'libvirtd',
  'qemu-system-x86_64',
  'dnsmasq',
  'aws',
  'socat',
);

interface Rig {
  controller: Host;
  computes: Daemon[];
  ann: Credentials;
  manage(...words: string[]): Promise<string>;
}

/** Three hosts as in flagfiles/multi_host: a controller and two compute hosts, each with a libvirtd of its own. */
async function threeHosts(t: Scope): Promise<Rig> {
  const lan = await startLan(t, ['controller', 'node1', 'node2']);
  const [controller, ...nodes] = lan.hosts as [Host, Host, Host];
  const [rabbit, postgres] = await Promise.all([
    startRabbitmq(t, { host: controller }),
    startPostgres(t, { host: controller }),
  ]);
  const flags: FlagFile = {
    flagfile: join(projectRoot(), 'flagfiles/multi_host/common.flags'),
    ...rabbit.flags,
    rabbit_userid: 'guest',
    rabbit_password: 'guest',
    sql_connection: await postgres.createDatabase(),
    s3_host: controller.address,
    ec2_host: controller.address,
    ec2_dmz_host: controller.address,
    osapi_host: controller.address,
    routing_source_ip: controller.address,
    libvirt_type: 'qemu',
    verbose: true,
  };
  const on_controller = (binary: string) =>
    startDaemon(t, binary, { host: controller, flags: { ...flags, state_path: controller.dir } });
  const manage = async (...words: string[]) => {
    const given = Object.entries({ ...flags, state_path: controller.dir }).map(
      ([name, value]) => `--${name}=${String(value)}`,
    );
    return (await controller.exec([process.execPath, join(projectRoot(), 'bin/nova-manage'), ...given, ...words]))
      .stdout;
  };
  await manage('db', 'sync');
  await manage('user', 'create', 'ann', 'ann-access', 'ann-secret');
  await manage('project', 'create', 'apollo', 'ann');
  await manage('network', 'create', '10.0.0.0/24', '1', '256');
  const tiny = await guestImage();
  await manage('image', 'all_register', tiny.rootfs, tiny.kernel, tiny.ramdisk, 'apollo', 'tiny');

  for (const binary of ['nova-objectstore', 'nova-network', 'nova-scheduler', 'nova-api']) await on_controller(binary);
  const computes: Daemon[] = [];
  for (const host of nodes) {
    await startLibvirtd(t, { host });
    computes.push(
      await startDaemon(t, 'nova-compute', {
        host,
        flags: { ...flags, state_path: host.dir, connection_type: 'libvirt' },
      }),
    );
  }
  const ann = {
    url: `http://${controller.address}:8773/services/Cloud`,
    access: 'ann-access:apollo',
    secret: 'ann-secret',
  };
  return { controller, computes, ann, manage };
}

async function describe(who: Credentials, id: string): Promise<Xml | undefined> {
  return instancesOf(await ec2(who, 'DescribeInstances')).find((one) => at(one, 'instanceId') === id);
}
const state = (instance: Xml): string => String(at(instance, 'instanceState', 'name'));
const consoleOf = async (who: Credentials, id: string): Promise<string> =>
  Buffer.from(String((await ec2(who, 'GetConsoleOutput', { InstanceId: id }))['output'] ?? ''), 'base64').toString();

/** What the tiny guest's root shell on port 2222 prints, asked from the host that holds the bridge. */
const inGuest = async (from: Host, address: string, command: string): Promise<string> =>
  (await from.exec(['socat', '-t', '10', '-', `TCP:${address}:2222`], { input: `${command}\n` })).stdout;

test(
  'guests on two compute hosts ping each other and read their own metadata; one outlives its killed nova-compute',
  { skip, timeout: 600_000 },
  async (t) => {
    const rig = await threeHosts(t);
    const { ann, controller } = rig;
    const image = await machineImage(ann);

    // Both hosts, since each is asked for by name: that is an administrator's right.
    await rig.manage('user', 'admin', 'root', 'root-access', 'root-secret');
    const admin = { ...ann, access: 'root-access:apollo', secret: 'root-secret' };
    const ids: string[] = [];
    for (const host of ['node1', 'node2']) {
      const answer = await ec2(admin, 'RunInstances', {
        ImageId: image,
        MinCount: 1,
        MaxCount: 1,
        InstanceType: 'm1.tiny',
        'Placement.AvailabilityZone': `nova:${host}`,
        UserData: Buffer.from(`#!/bin/sh\necho hello from ${host}\n`).toString('base64'),
      });
      ids.push(String(at(instancesOf(answer)[0] ?? '', 'instanceId')));
    }
    const addresses: string[] = [];
    for (const id of ids) {
      const row = await until(`${id} runs`, async () => {
        const one = await describe(ann, id);
        assert.notEqual(one && state(one), 'error', await rig.manage('explain', id));
        return one && state(one) === 'running' && one;
      });
      addresses.push(String(at(row, 'privateIpAddress')));
    }
    const [first = '', second = ''] = ids;
    const [first_ip = '', second_ip = ''] = addresses;

    // Each reads its own instance id from the metadata service, and runs its own user data.
    for (const [i, id] of ids.entries()) {
      const text = await until(`${id} tells its instance id`, async () => {
        const said = await consoleOf(ann, id);
        return said.includes('TINY: metadata done') && said;
      });
      assert.ok(text.includes(`TINY: instance-id ${id}`), text);
      assert.ok(text.includes(`TINY: script hello from node${i + 1}`), text);
    }
    assert.match(await inGuest(controller, first_ip, `ping -c 2 -W 5 ${second_ip}`), /2 packets received/);
    assert.match(await inGuest(controller, second_ip, `ping -c 2 -W 5 ${first_ip}`), /2 packets received/);

    // The daemon dies, the guest does not, and it is adopted.
    const compute = rig.computes[0] as Daemon;
    await compute.kill();
    assert.match(await inGuest(controller, first_ip, 'echo still here'), /still here/);
    await compute.start();
    assert.equal(state((await describe(ann, first)) ?? ''), 'running');

    await ec2(ann, 'RebootInstances', { 'InstanceId.1': first });
    await until(
      'the console shows two boots',
      async () => ((await consoleOf(ann, first)).match(/TINY: ready/g) ?? []).length >= 2,
    );

    await ec2(ann, 'TerminateInstances', { 'InstanceId.1': first, 'InstanceId.2': second });
    await until('both are gone', async () =>
      instancesOf(await ec2(ann, 'DescribeInstances')).every((one) => state(one) === 'terminated'),
    );
    for (const host of ['node1', 'node2']) assert.equal((await guestsOn(rig, host)).trim(), '');
  },
);

async function machineImage(who: Credentials): Promise<string> {
  const set = (await ec2(who, 'DescribeImages'))['imagesSet'] ?? '';
  const all = at(set, 'item');
  const image = (Array.isArray(all) ? all : [all]).find((one) => at(one, 'imageType') === 'machine');
  return String(at(image ?? '', 'imageId'));
}

/** libvirt's own word on which guests are defined there. */
async function guestsOn(rig: Rig, name: string): Promise<string> {
  const compute = rig.computes[name === 'node1' ? 0 : 1] as Daemon;
  const enter = ['nsenter', '-t', String(compute.pid), '-m', '-n', '-p', '--'];
  return (await execute([...enter, 'virsh', '-q', '-c', 'qemu:///system', 'list', '--all', '--name'])).stdout;
}
