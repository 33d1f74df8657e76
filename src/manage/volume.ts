import { writing } from '../common/db/connect.ts';
import { recordEvent } from '../common/db/events.ts';
import { ec2InstanceId, instanceById } from '../common/db/instances.ts';
import { castJob } from '../common/db/jobs.ts';
import { ec2SnapshotId } from '../common/db/snapshots.ts';
import { attachmentOfVolume } from '../common/db/volume_attachments.ts';
import { viewVolumes } from '../common/db/volume_views.ts';
import { ec2VolumeId, lockVisibleVolume } from '../common/db/volumes.ts';
import { Conflict, InvalidInput } from '../common/errors.ts';
import { silentLog } from '../common/log.ts';
import { castClient } from '../common/rpc/contract.ts';
import { MemoryBus } from '../common/rpc/memory_bus.ts';
import { computeContract } from '../compute/rpc.ts';
import { VolumeApi } from '../volume/api.ts';
import { volumeResource } from '../volume/rpc.ts';
import { takeDownVolumes } from '../volume/take_down.ts';
import { lookTwice, note, repair } from '../volume/doctor/doctor.ts';
import { doctorVerb } from './doctor.ts';
import { checkHost } from './known_host.ts';
import { named, numberOf, onOff, optional, text, verb, type Manage, type Noun } from './noun.ts';
import { table } from './table.ts';
import { forgetSnapshot, forgetVolume, silenceOfStorage } from './volume_gone.ts';

const volume_id = numberOf('vol', 'vol-0000000a, or its number');
const host_is_gone = onOff('Its storage host never comes back; refused while that nova-volume is up');

/** Source: Nova 2011.3 bin/nova-manage VolumeCommands. */
export const volumeCommands: Noun = {
  name: 'volume',
  summary: 'Block storage of instances',
  verbs: {
    list: verb({
      summary: 'Print the volumes of all projects, with what they are attached to',
      args: { host: named(optional(text('Storage host; all when left out'))) },
      run: list,
    }),
    delete: verb({
      summary: 'Delete a volume that is not attached; one that never had a host is gone at once',
      details:
        'With --host_is_gone, for a storage host that never comes back: its rows end at once, with its snapshots and its\n' +
        'attachment. Should the host come back after all, it takes the bytes away by itself.',
      args: { volume_id, host_is_gone },
      run: remove,
    }),
    delete_snapshot: verb({
      summary: 'Delete a snapshot',
      details: 'With --host_is_gone, for a storage host that never comes back: its row ends at once.',
      args: { snapshot_id: numberOf('snap', 'snap-0000000a, or its number'), host_is_gone },
      run: removeSnapshot,
    }),
    reattach: verb({
      summary: 'Have nova-compute give the volume to its instance again, as after a guest was started by hand',
      args: { volume_id },
      run: reattach,
    }),
    doctor: doctorVerb(
      {
        summary: 'Compare the volumes of this storage host with what they should be',
        details:
          'Database, bytes at the store, iSCSI exports and attachments: each difference with what was expected, what was\n' +
          'found, and what --apply does about it. Ends with 0 when nothing differs, else with 1. Use the flagfile of the\n' +
          "host's nova-volume; it may be running. Bytes that no row ever named are told and not touched.",
      },
      { lookTwice, note, repair },
    ),
    take_down: verb({
      summary: 'End the tgtd that nova-volume leaves running on this host',
      details:
        'For a host that leaves the cloud. Stop nova-volume first; when it starts again, so does tgtd. The volumes stay.\n' +
        'Where a guest has a session nothing is ended, and its targets are named.',
      run: async (m) => {
        const used = await takeDownVolumes({ flags: m.flags, log: silentLog });
        if (used.length > 0) throw new Conflict(`tgtd stays: somebody uses ${used.join(', ')}; detach them first`);
      },
    }),
    type_list: verb({ summary: 'Print the volume types', run: listTypes }),
    type_create: verb({
      summary: 'Make a volume type',
      args: { name: text('Name'), specs: optional(text('Properties: key=value,key=value'), '') },
      run: async (m, { name, specs }) => {
        const { id } = await api(m).types.create(m.ctx, name, specsOf(specs));
        m.out(`${name} created with the number ${id}`);
      },
    }),
    type_delete: verb({
      summary: 'Forget a volume type; volumes of it stay',
      args: { name: text('Name') },
      run: async (m, { name }) => {
        const types = api(m).types;
        await types.delete(m.ctx, (await types.get(m.ctx, name)).id);
        m.out(`${name} deleted`);
      },
    }),
  },
};

/** It only leaves jobs; nobody is asked over its bus. */
const api = ({ db, flags }: Manage): VolumeApi => new VolumeApi({ db, flags, bus: new MemoryBus() });

async function list(m: Manage, { host }: { host: string | undefined }): Promise<void> {
  const rows = [['id', 'status', 'GiB', 'type', 'host', 'zone', 'project', 'attached to', 'device', 'name', 'fault']];
  const all = await viewVolumes(m.db, m.ctx);
  if (host !== undefined) await checkHost(m, host, all);
  for (const volume of all) {
    if (host !== undefined && volume.host !== host) continue;
    const { attachment } = volume;
    rows.push([
      ec2VolumeId(volume.id),
      volume.status,
      String(volume.size),
      volume.volume_type ?? 'None',
      volume.host ?? 'None',
      volume.availability_zone,
      volume.project_id,
      attachment ? ec2InstanceId(attachment.instance_id) : 'None',
      attachment ? attachment.device : 'None',
      volume.display_name,
      volume.fault ?? '',
    ]);
  }
  for (const line of table(rows, [2])) m.out(line);
}

interface Deletion {
  host_is_gone: boolean;
}

async function remove(m: Manage, asked: Deletion & { volume_id: number }): Promise<void> {
  const { volume_id: id, host_is_gone } = asked;
  const name = ec2VolumeId(id);
  const { host } = await api(m).get(m.ctx, id);
  if (host_is_gone && host !== null) {
    const ended = await forgetVolume(m, id, host);
    return m.out(`${name} deleted${ended.length === 0 ? '' : `, and with it ${ended.join(', ')}`}`);
  }
  await api(m).delete(m.ctx, id);
  if (host === null) m.out(`${name} deleted`);
  else await tellDeleting(m, name, host, `volume delete ${name}`);
}

async function removeSnapshot(m: Manage, asked: Deletion & { snapshot_id: number }): Promise<void> {
  const { snapshot_id: id, host_is_gone } = asked;
  const name = ec2SnapshotId(id);
  const { host } = await api(m).snapshots.get(m.ctx, id);
  if (host_is_gone) {
    await forgetSnapshot(m, id, host);
    return m.out(`${name} deleted`);
  }
  await api(m).snapshots.delete(m.ctx, id);
  await tellDeleting(m, name, host, `volume delete_snapshot ${name}`);
}

async function tellDeleting(m: Manage, name: string, host: string, words: string): Promise<void> {
  const silent = await silenceOfStorage(m, host);
  if (silent === undefined) return m.out(`${name} is being deleted by nova-volume on ${host}`);
  m.out(`${name} is deleting, which waits. ${silent}: start it, and the deletion goes on by itself.`);
  m.out(`If that host never comes back: nova-manage ${words} --host_is_gone`);
}

async function reattach(m: Manage, { volume_id: id }: { volume_id: number }): Promise<void> {
  const compute = castClient(computeContract);
  const told = await writing(m.db, async (tx) => {
    const volume = await lockVisibleVolume(tx, m.db.dialect, m.ctx, id);
    const attachment = await attachmentOfVolume(tx, id);
    if (!attachment || volume.status !== 'in-use')
      throw new Conflict(`${ec2VolumeId(id)} is ${volume.status}; only one that is in-use is attached again`);
    const instance = await instanceById(tx, attachment.instance_id);
    const name = ec2InstanceId(instance.id);
    if (instance.host === null) throw new Conflict(`${name} has no host`);
    const args = { instance_id: instance.id, volume_id: id, mountpoint: attachment.device };
    await castJob(tx, { ...m.ctx, project_id: volume.project_id }, compute.at(instance.host).attachVolume, args);
    await recordEvent(tx, m.ctx, volumeResource(id), 'attaching again asked for by an operator', instance.host, {
      to: name,
      device: attachment.device,
    });
    return `nova-compute on ${instance.host} gives it to ${name} at ${attachment.device}`;
  });
  m.out(told);
}

async function listTypes(m: Manage): Promise<void> {
  const rows = [['id', 'name', 'properties']];
  for (const { id, name, extra_specs } of await api(m).types.list(m.ctx)) {
    const specs = Object.entries(extra_specs).map(([key, value]) => `${key}=${value}`);
    rows.push([String(id), name, specs.join(',')]);
  }
  for (const line of table(rows, [0])) m.out(line);
}

/** @throws InvalidInput */
function specsOf(text: string): Record<string, string> {
  const pairs = text.split(',').filter((pair) => pair !== '');
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=');
      if (at < 1) throw new InvalidInput(`'${pair}' is no key=value`);
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}
