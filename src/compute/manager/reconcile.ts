import { adminContext } from '../../common/context.ts';
import { writing, type NovaDb } from '../../common/db/connect.ts';
import { recordEvent } from '../../common/db/events.ts';
import { instanceById, instancesOfHost, moveInstance, type Instance } from '../../common/db/instances.ts';
import { openJobs } from '../../common/db/jobs.ts';
import { BackendAway, InstanceBusy, InstanceNotFound } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import { instanceResource } from '../../common/rpc/contract.ts';
import type { ComputeDriver, GuestInfo } from '../drivers/driver.ts';
import { PowerState } from '../logic/power_state.ts';
import { guestId, guestName } from './guest_spec.ts';

interface Deps {
  db: NovaDb;
  log: Log;
  host: string;
  driver: ComputeDriver;
  template: string;
}

/**
 * Compares the hypervisor with the database, at start and every period. A guest whose row is deleted or is another
 * host's goes; one that nobody knows is only told of. A row that is idle takes the guest's power state: off is `stopped`.
 * Rows with a task under way belong to their job, and those stay as they are whose guest cannot be looked at. A guest that does not go is told of and does not hold the others up.
 */
export async function reconcileGuests(deps: Deps, signal: AbortSignal): Promise<void> {
  const { db, driver, host, template } = deps;
  const rows = await instancesOfHost(db, host); // before the guests: what was read is not written over what came meanwhile
  const guests = new Map((await driver.listInstances()).map((guest) => [guest.name, guest]));
  for (const row of rows) {
    const name = guestName(template, row.id);
    const guest = guests.get(name);
    if (guest?.uuid === null) continue;
    const state = guest?.uuid === row.uuid ? guest.state : undefined;
    if (state !== undefined) guests.delete(name);
    if (isIdle(row)) await takePowerState(deps, row, state ?? PowerState.SHUTOFF);
  }
  for (const guest of guests.values()) await reapGuest(deps, guest, signal);
}

/** The same of one guest that was found to be other than its row says. */
export async function reconcileGuest(deps: Deps, id: number): Promise<void> {
  const row = await instanceById(deps.db, id);
  const { uuid, state } = await deps.driver.getInfo(guestName(deps.template, id));
  if (isIdle(row) && uuid === row.uuid) await takePowerState(deps, row, state);
}

/** Then what it is, is what its guest is. */
const isIdle = ({ task_state, vm_state }: Instance): boolean =>
  task_state === null && (vm_state === 'active' || vm_state === 'stopped');

async function takePowerState({ db, host, log }: Deps, row: Instance, power_state: PowerState): Promise<void> {
  const off =
    power_state === PowerState.SHUTOFF || power_state === PowerState.SHUTDOWN || power_state === PowerState.CRASHED;
  const vm_state = off ? 'stopped' : 'active';
  if (row.power_state === power_state && row.vm_state === vm_state) return;
  try {
    await writing(db, async (tx) => {
      await moveInstance(tx, row.id, {
        from: [null],
        to: { task_state: null, power_state, vm_state },
        host,
        read: row,
      });
      await recordEvent(
        tx,
        { ...adminContext(), project_id: row.project_id },
        instanceResource(row.id),
        off ? 'found stopped' : 'found running',
        host,
        { power_state },
      );
    });
    log.info({ instance_id: row.id, vm_state, power_state }, 'took the state of the hypervisor');
  } catch (err) {
    if (!(err instanceof InstanceBusy)) throw err; // a request came in between; its job goes first
  }
}

async function reapGuest(deps: Deps, { name, uuid }: GuestInfo, signal: AbortSignal): Promise<void> {
  const { db, host, log, driver, template } = deps;
  if (uuid === null) return; // its driver told of it
  const id = guestId(template, name);
  const row = id === undefined ? undefined : await rowOf(db, id);
  if (!row || row.uuid !== uuid) {
    log.warn({ guest: name, uuid }, 'a guest that the database does not know; left alone');
    return;
  }
  // A live row of this host came between our two questions; without a host its failed launch is still cleaning up.
  if (row.deleted === 0 && (row.host === host || row.host === null)) return;
  const jobs = await openJobs(db, instanceResource(row.id));
  if (jobs.some((job) => job.state === 'running')) return; // it may be making this very guest, or taking it away
  signal.throwIfAborted();
  try {
    await driver.destroy(name, signal, uuid);
  } catch (err) {
    if (err instanceof BackendAway || signal.aborted) throw err;
    log.warn({ err, guest: name, instance_id: row.id }, 'a left-over guest does not go; the next period tries again');
    return;
  }
  await recordEvent(
    db,
    { ...adminContext(), project_id: row.project_id },
    instanceResource(row.id),
    'left-over guest taken away',
    host,
  );
  log.info({ guest: name, instance_id: row.id }, 'took away a guest that is deleted or runs elsewhere');
}

const rowOf = (db: NovaDb, id: number): Promise<Instance | undefined> =>
  instanceById(db, id, { deleted: true }).catch((err: unknown) => {
    if (err instanceof InstanceNotFound) return undefined;
    throw err;
  });
