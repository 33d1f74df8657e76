import assert from 'node:assert/strict';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectDb, type NovaDb } from '../src/common/db/connect.ts';
import { syncDb } from '../src/common/db/migrate.ts';
import { volumeById } from '../src/common/db/volumes.ts';
import { sleep } from '../src/common/clock.ts';
import { Flags } from '../src/common/flags.ts';
import { silentLog } from '../src/common/log.ts';
import { MemoryBus } from '../src/common/rpc/memory_bus.ts';
import { publishCasts, Service, type Daemon } from '../src/common/service.ts';
import type { GuestVolume } from '../src/common/volume_connection.ts';
import { volumeXml } from '../src/compute/drivers/libvirt/volume_xml.ts';
import { ComputeManager } from '../src/compute/manager/compute.ts';
import { computeContract } from '../src/compute/rpc.ts';
import { computeNetwork } from '../src/network/compute_side.ts';
import { chance } from '../src/scheduler/logic/chance.ts';
import { SchedulerManager } from '../src/scheduler/manager/scheduler.ts';
import { schedulerContract } from '../src/scheduler/rpc.ts';
import { VolumeApi } from '../src/volume/api.ts';
import { FileISCSIDriver } from '../src/volume/drivers/file.ts';
import { VolumeManager } from '../src/volume/manager/volume.ts';
import { takeDownVolumes } from '../src/volume/take_down.ts';
import { volumeContract } from '../src/volume/rpc.ts';
import { aContext, anInstance, aProject } from '../test/builders.ts';
import { needs } from '../test/rigs/needs.ts';
import { freePort } from '../test/rigs/free_port.ts';
import { atEnd, tempDir, type Scope } from '../test/rigs/tmp.ts';
import { diskOf, untilSaid, type VolumeRig } from '../test/volume/guest_volumes.ts';
import { aLibvirtHost, LIBVIRT_HOST_NEEDS, type LibvirtHost } from '../test/volume/libvirt_host.ts';
import type { Bench } from './bench.ts';
import { figure, median } from './figure.ts';

const never = new AbortController().signal;
const INSTANCE = 10;
const FILES = 'nova.volume.driver.FileISCSIDriver';

/** Volumes at a real guest: through every service of ours, beside virsh alone; and what iSCSI costs the guest. */
export const volumes: Bench = {
  name: 'volumes',
  async *run(scope, { quick }) {
    const lacks = needs(...LIBVIRT_HOST_NEEDS);
    if (lacks) return console.error(`volumes: left out: ${lacks}`);
    const host = await aLibvirtHost(scope);
    const rig = await host.rig(scope);
    const guest = rig.spec({ instance_id: INSTANCE });
    await rig.driver.spawn(guest, rig.fetch, never);
    await rig.up(guest.name, 1);
    const ours = await aCloud(scope, host, rig, guest.uuid);
    const bare = await bareDisk(scope, host, guest.uuid);
    const seen = (serial: string, there: boolean) =>
      untilSaid(rig, guest.name, diskOf(serial), (said) => (said !== '') === there);
    const times = { attach: [] as number[][], detach: [] as number[][] };
    for (let round = 0; round < (quick ? 3 : 9); round++) {
      const attach: number[] = [];
      const detach: number[] = [];
      for (const one of round % 2 ? [bare, ours] : [ours, bare]) {
        attach.push(await timed(one.attach));
        await seen(one.serial, true);
        detach.push(await timed(one.detach));
        await seen(one.serial, false);
      }
      if (round === 0) continue; // the first of each finds nothing in the machine's memory
      times.attach.push(round % 2 ? attach.reverse() : attach);
      times.detach.push(round % 2 ? detach.reverse() : detach);
    }
    for (const [what, pairs] of Object.entries(times)) {
      const [values, limits] = [0, 1].map((i) => pairs.map((pair) => pair[i] ?? NaN));
      const ratio = median(pairs.map(([value = NaN, limit = NaN]) => value / limit));
      const measured = { value: median(values ?? []), limit: median(limits ?? []), ratio };
      yield figure(`volume ${what}, from the request until it is done`, 'ms', measured, { of: 'ratio', at_most: 2 });
    }
    yield* throughput(scope, host, rig, guest, quick ? 32 : 256);
  },
};

const timed = async (work: () => Promise<void>): Promise<number> => {
  const begin = performance.now();
  await work();
  return performance.now() - begin;
};

interface Plug {
  serial: string;
  attach(): Promise<void>;
  detach(): Promise<void>;
}

/** VolumeApi, scheduler, nova-volume with files, nova-compute with libvirt, over SQLite and the in-process bus. */
async function aCloud(scope: Scope, host: LibvirtHost, rig: VolumeRig, uuid: string): Promise<Plug> {
  const dir = tempDir(scope, 'cloud');
  const db = await connectDb(`sqlite:///${join(dir, 'nova.sqlite')}`);
  atEnd(scope, () => db.destroy());
  await syncDb(db);
  await aProject(db);
  await anInstance(db, { id: INSTANCE, uuid });
  const bus = new MemoryBus();
  publishCasts(db, bus, silentLog);
  const flags = Flags.of({
    state_path: dir,
    my_ip: host.address,
    iscsi_port: await freePort(),
    volume_driver: FILES,
    volume_reserved_mb: 0,
    fake_network: true,
    network_manager: 'nova.network.manager.FlatDHCPManager',
    periodic_interval: 3600,
  });
  const daemon: Daemon = { db, bus, flags, log: silentLog, host: 'node1' };
  const store = new FileISCSIDriver(daemon);
  const network = await computeNetwork(daemon);
  const guests = { driver: rig.driver, firewall: null, network, fetchImage: rig.fetch };
  const services = [
    {
      binary: 'nova-scheduler',
      contract: schedulerContract,
      manager: new SchedulerManager({ ...daemon, rule: chance }),
    },
    {
      binary: 'nova-volume',
      contract: volumeContract,
      manager: new VolumeManager({ ...daemon, driver: store, volume_driver: FILES }),
    },
    { binary: 'nova-compute', contract: computeContract, manager: new ComputeManager({ ...daemon, ...guests }) },
  ] as const;
  const [scheduler, volume, compute] = services;
  const running = [
    await Service.start({ ...daemon, ...scheduler }),
    await Service.start({ ...daemon, ...volume }),
    await Service.start({ ...daemon, ...compute }),
  ];
  atEnd(scope, async () => {
    for (const service of running) await service.stop();
    await takeDownVolumes(daemon); // its tgtd, which outlives nova-volume
  });
  const api = new VolumeApi(daemon);
  const { id } = await api.create(aContext(), { size: 1 });
  await becomes(db, id, 'available');
  return {
    serial: `vol-${id.toString(16).padStart(8, '0')}`,
    async attach() {
      await api.attach(aContext(), { volume_id: id, instance: INSTANCE });
      await becomes(db, id, 'in-use');
    },
    async detach() {
      await api.detach(aContext(), { volume_id: id });
      await becomes(db, id, 'available');
    },
  };
}

async function becomes(db: NovaDb, id: number, wanted: string): Promise<void> {
  for (let look = 0; look < 60_000; look++) {
    const { status, fault } = await volumeById(db, id);
    if (status === wanted) return;
    assert.equal(fault, null);
    await sleep(2);
  }
  throw new Error(`volume ${id} does not become ${wanted}`);
}

/** The same disk by one virsh, from a target that is open already. */
async function bareDisk(scope: Scope, { libvirtd, tgt }: LibvirtHost, uuid: string): Promise<Plug> {
  const dir = tempDir(scope, 'bare');
  const volume: GuestVolume = await tgt.volume(200, 1024, { device: 'vdd' });
  const { connection, serial } = volume;
  if (connection.driver_volume_type !== 'iscsi') throw new Error('a tgtd speaks iSCSI');
  const secret = '11111111-1111-4111-8111-111111111111';
  const [disk, define, value] = ['disk.xml', 'secret.xml', 'value'].map((name) => join(dir, name)) as [
    string,
    string,
    string,
  ];
  writeFileSync(disk, volumeXml(volume, 'vdd', secret));
  writeFileSync(value, connection.auth_password);
  writeFileSync(
    define,
    `<secret private='yes'><uuid>${secret}</uuid><usage type='iscsi'><target>bare</target></usage></secret>`,
  );
  await libvirtd.virsh(['secret-define', define]);
  await libvirtd.virsh(['secret-set-value', secret, '--file', value, '--plain']);
  return {
    serial,
    attach: async () => void (await libvirtd.virsh(['attach-device', uuid, disk, '--live'])),
    detach: async () => void (await libvirtd.virsh(['detach-device', uuid, disk, '--live'])),
  };
}

/** What the guest writes and reads, MB a second: through iSCSI, and of the same file attached as it is. */
async function* throughput(
  scope: Scope,
  { libvirtd, tgt }: LibvirtHost,
  rig: VolumeRig,
  guest: { name: string; uuid: string },
  size_mb: number,
) {
  const volume = await tgt.volume(201, 512, { device: 'vde' });
  const file = join(tempDir(scope, 'direct'), 'direct.img');
  writeFileSync(file, '');
  truncateSync(file, 512 * 1024 ** 2);
  const xml = `${file}.xml`;
  writeFileSync(
    xml,
    `<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none'/><source file='${file}'/>
     <target dev='vdf' bus='virtio'/><serial>direct</serial></disk>`,
  );
  await rig.driver.attachVolume(guest.name, volume, never);
  await libvirtd.virsh(['attach-device', guest.uuid, xml, '--live']);
  const name = (serial: string) => untilSaid(rig, guest.name, diskOf(serial), (said) => said !== '');
  const disks = [await name(volume.serial), await name('direct')];
  const dd = {
    write: (disk: string) => `dd if=/dev/zero of=/dev/${disk} bs=1M count=${size_mb} conv=fsync`,
    read: (disk: string) => `echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/${disk} of=/dev/null bs=1M count=${size_mb}`,
  };
  for (const [what, command] of Object.entries(dd)) {
    const speeds: number[][] = [];
    for (let round = 0; round < 3; round++) {
      const both: number[] = [];
      for (const disk of disks) {
        const uptime = 'cut -d " " -f 1 /proc/uptime';
        const said = await rig.shell(guest.name, `${uptime}; ${command(disk)} >/dev/null 2>&1 && ${uptime}`);
        const [begin = NaN, end = NaN] = said.trim().split(/\s+/).map(Number);
        const seconds = end - begin;
        if (!(seconds > 0)) throw new Error(`dd in the guest said ${said}`);
        both.push(size_mb / seconds);
      }
      speeds.push(both);
    }
    const [value, limit] = [0, 1].map((i) => median(speeds.map((both) => both[i] ?? NaN))) as [number, number];
    const ratio = median(speeds.map(([ours = NaN, direct = NaN]) => ours / direct));
    yield figure(`guest's dd ${what} through iSCSI`, 'MB/s', { value, limit, ratio });
  }
}
