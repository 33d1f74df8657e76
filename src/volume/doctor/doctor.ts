import { adminContext } from '../../common/context.ts';
import { coreFlags } from '../../common/core_flags.ts';
import { writing, type NovaDb } from '../../common/db/connect.ts';
import { ec2InstanceId, instanceById } from '../../common/db/instances.ts';
import { targetsOfHost } from '../../common/db/iscsi_targets.ts';
import { snapshotById, snapshotsOfHost } from '../../common/db/snapshots.ts';
import {
  attachmentOfVolume,
  attachmentsOfStorageHost,
  endAttachment,
  type VolumeAttachment,
} from '../../common/db/volume_attachments.ts';
import { driverOfHost } from '../../common/db/volume_nodes.ts';
import { moveVolume, volumeById, volumesOfHost } from '../../common/db/volumes.ts';
import type { Difference } from '../../common/difference.ts';
import { Repairs, twice } from '../../common/doctor.ts';
import { InvalidInput, NotFound } from '../../common/errors.ts';
import type { Flags } from '../../common/flags.ts';
import type { Log } from '../../common/log.ts';
import { makeVolumeDriver } from '../classes.ts';
import type { VolumeDriver } from '../drivers/driver.ts';
import { FakeVolumeDriver, fakeVolumeDriverFlags } from '../drivers/fake.ts';
import { Exports } from '../manager/exports.ts';
import { StoreNames } from '../manager/names.ts';
import { volumeManagerFlags } from '../manager/volume.ts';
import { tellStorage } from '../rpc.ts';
import { compareStore, type Fault, type Mend } from './compare.ts';

export interface DoctorDeps {
  db: NovaDb;
  flags: Flags;
  log: Log;
}

/** What the second look finds as well: the daemon may have been in the midst of a change. @throws BackendUnavailable */
export async function lookTwice(deps: DoctorDeps): Promise<Difference[]> {
  const doctor = await VolumeDoctor.here(deps);
  return (await twice(() => doctor.look())).map(({ mend: _mend, ...difference }) => difference);
}

/** What of nova-volume's does not run here, in a line; null: all does. @throws BackendUnavailable */
export async function note(deps: DoctorDeps): Promise<string | null> {
  const doctor = await VolumeDoctor.here(deps);
  return doctor.note();
}

/** Puts right what both of two looks find. @returns what could not be, in words. @throws BackendUnavailable */
export async function repair(deps: DoctorDeps): Promise<string[]> {
  const doctor = await VolumeDoctor.here(deps);
  const repairs = new Repairs();
  for (const { what, repair: words, mend } of await twice(() => doctor.look()))
    if (mend !== null) await repairs.try(`${what}: '${words}'`, () => doctor.mend(mend));
  return repairs.failures;
}

/** One storage host: its rows, and its driver, which asks the same folders and the same tgtd as nova-volume does. */
class VolumeDoctor {
  readonly #db: NovaDb;
  readonly #driver: VolumeDriver;
  readonly #host: string;
  readonly #names: StoreNames;
  readonly #exports: Exports;
  readonly #signal = new AbortController().signal;

  constructor({ db, flags, log }: DoctorDeps, driver: VolumeDriver) {
    const { iscsi_num_targets } = flags.read(volumeManagerFlags);
    this.#db = db;
    this.#driver = driver;
    this.#host = flags.read(coreFlags).host;
    this.#names = new StoreNames(flags);
    this.#exports = new Exports({ db, log, driver, host: this.#host, names: this.#names, iscsi_num_targets });
  }
  static async here(deps: DoctorDeps): Promise<VolumeDoctor> {
    const { host } = deps.flags.read(coreFlags);
    const driver = await driverOfHost(deps.db, host); // nova-all chooses one where the flag names none
    if (driver === undefined)
      throw new NotFound(`no nova-volume ever ran on host ${host} (--host): use the flagfile of a storage host`);
    const store = await makeVolumeDriver(driver, deps);
    if (store instanceof FakeVolumeDriver) {
      if (deps.flags.read(fakeVolumeDriverFlags).fake_volume_state === null)
        throw new InvalidInput(
          `the fake volume driver of ${host} keeps its volumes in its own memory, so there is nothing to compare: give it --fake_volume_state=FILE`,
        );
      await store.initHost();
    }
    return new VolumeDoctor(deps, store);
  }

  async note(): Promise<string | null> {
    const { missing } = await this.#driver.look();
    return missing && `no ${missing} runs on ${this.#host}, so nothing is exported: nova-volume starts it`;
  }

  async look(): Promise<Fault[]> {
    const store = await this.#driver.look(); // before the rows: what is made meanwhile has a row first
    const { half_made } = store;
    const [volumes, snapshots] = [
      await volumesOfHost(this.#db, this.#host),
      await snapshotsOfHost(this.#db, this.#host),
    ];
    const attachments = [];
    for (const one of await attachmentsOfStorageHost(this.#db, this.#host))
      attachments.push(await this.#attachment(one));
    return compareStore({
      host: this.#host,
      store,
      volumes: volumes.map((row) => ({ id: row.id, status: row.status, name: this.#names.volume(row).name })),
      snapshots: snapshots.map((row) => ({ id: row.id, status: row.status, name: this.#names.snapshot(row).name })),
      attachments,
      targets: await targetsOfHost(this.#db, this.#host),
      deleted: {
        volumes: await this.#deleted(
          new Set([...store.volumes, ...half_made.volumes, ...store.exports]),
          this.#names.volumeId,
          volumeById,
        ),
        snapshots: await this.#deleted(
          new Set([...store.snapshots, ...half_made.snapshots]),
          this.#names.snapshotId,
          snapshotById,
        ),
      },
    });
  }

  async #attachment({ id, volume_id, instance_id, status }: VolumeAttachment) {
    const { deleted } = await instanceById(this.#db, instance_id, { deleted: true });
    return { id, volume_id, status, instance: ec2InstanceId(instance_id), instance_gone: deleted === 1 };
  }

  /** Those of these names whose row says that it was this host's and is deleted. */
  async #deleted(
    names: ReadonlySet<string>,
    idOf: (name: string) => number | undefined,
    byId: (db: NovaDb, id: number, options: { deleted: boolean }) => Promise<{ deleted: number; host: string | null }>,
  ): Promise<{ id: number; name: string }[]> {
    const found = [];
    for (const name of names) {
      const id = idOf(name);
      const row = id === undefined ? undefined : await byId(this.#db, id, { deleted: true }).catch(orNone);
      if (id !== undefined && row?.deleted === 1 && row.host === this.#host) found.push({ id, name });
    }
    return found;
  }

  async mend(mend: Mend): Promise<void> {
    switch (mend.do) {
      case 'end attachment':
        return this.#endAttachment(mend.volume_id, mend.attachment_id);
      case 'free volume':
        return moveVolume(this.#db, mend.volume_id, {
          from: ['attaching', 'in-use', 'detaching'],
          to: { status: 'available', fault: null },
          host: this.#host,
        });
      case 'hold volume':
        await moveVolume(this.#db, mend.volume_id, {
          from: ['available'],
          to: { status: mend.status },
          ...(mend.status === 'in-use' ? {} : { deadline_s: 0 }), // the sweep goes on with it
          host: this.#host,
        });
        return this.#exports.refresh(mend.volume_id, this.#signal);
      case 'refresh export':
        return this.#exports.refresh(mend.volume_id, this.#signal);
      case 'delete bytes':
        return this.#deleteBytes(mend);
    }
  }

  async #endAttachment(volume_id: number, attachment_id: number): Promise<void> {
    await writing(this.#db, async (tx) => {
      const attachment = await attachmentOfVolume(tx, volume_id);
      if (attachment?.id !== attachment_id) return;
      const ended = await endAttachment(tx, attachment, { why: 'terminated' });
      await tellStorage(
        tx,
        adminContext(),
        ended ? [ended] : [],
        'attachment ended by an operator: its instance is gone',
      );
    });
  }

  async #deleteBytes({ kind, id }: { kind: 'volume' | 'snapshot'; id: number }): Promise<void> {
    if (kind === 'volume') {
      const spec = this.#names.volume(await volumeById(this.#db, id, { deleted: true }));
      await this.#driver.deleteVolume(spec, this.#signal);
    } else {
      const spec = this.#names.snapshot(await snapshotById(this.#db, id, { deleted: true }));
      await this.#driver.deleteSnapshot(spec, this.#signal);
    }
  }
}

function orNone(err: unknown): undefined {
  if (!(err instanceof NotFound)) throw err;
}
