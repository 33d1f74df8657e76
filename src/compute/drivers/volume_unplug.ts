import { connect } from 'node:net';
import { BackendUnavailable, Conflict, errorText } from '../../common/errors.ts';
import { defineFlags, integer } from '../../common/flags.ts';
import type { VolumeConnection } from '../../common/volume_connection.ts';
import { pause } from './aborted.ts';

export const volumeUnplugFlags = defineFlags({
  volume_detach_timeout: integer(60, 'Seconds a guest gets to let go of a volume', { min: 1 }),
});

/** A guest that is just booting does not hear a request, so it is asked again. */
const ASK_EVERY_MS = 5000;
const LOOK_EVERY_MS = 250;

/**
 * Asks a guest to let go of a disk and waits until it did. A guest that we have stand still hears nothing, so its time
 * begins when it goes on. @throws Conflict when the time was over, Aborted
 */
export async function unplug(
  disk: { ask(): Promise<void>; isGone(): Promise<boolean>; isFrozen(): Promise<boolean> },
  what: string,
  timeout_s: number,
  signal: AbortSignal,
): Promise<void> {
  let heard_since = Date.now();
  for (let asked = 0; ;) {
    const now = Date.now();
    if (now - asked >= ASK_EVERY_MS) {
      asked = now;
      await disk.ask();
    }
    if (await disk.isGone()) return;
    if (await disk.isFrozen()) heard_since = Date.now();
    if (now - heard_since >= timeout_s * 1000)
      throw new Conflict(
        `the guest did not let go of ${what} in ${timeout_s} s (--volume_detach_timeout): ` +
          'unmount it in the guest and detach again, or force it',
      );
    await pause(LOOK_EVERY_MS, signal, `detach of ${what}`);
  }
}

/** Why a guest did not get a volume, in QEMU's or libvirt's words, as an error that says what to do. */
export function notPlugged(
  name: string,
  serial: string,
  reason: string,
  cause: unknown,
): Conflict | BackendUnavailable {
  if (/No more available PCI slots|no slot\/function|PCI: no/i.test(reason))
    return new Conflict(`guest ${name} has no free slot for another disk: detach one first`, { cause });
  const remedy = /Unknown (driver|protocol) '?iscsi/i.test(reason) ? '. Install qemu-block-extra on this host' : '';
  return new BackendUnavailable(`guest ${name} did not get ${serial}: ${reason}${remedy}`, { cause });
}

type Iscsi = Extract<VolumeConnection, { driver_volume_type: 'iscsi' }>;

/** The connection, when QEMU knows to make it. @throws Conflict */
export function iscsiOf(connection: VolumeConnection, serial: string): Iscsi {
  if (connection.driver_volume_type === 'iscsi') return connection;
  throw new Conflict(
    `${serial} is a volume of the ${connection.driver_volume_type} driver, which only guests of the fake driver can have: ` +
      'set --volume_driver to a real one',
  );
}

export function portalOf({ target_portal }: Iscsi): { host: string; port: number } {
  const at = target_portal.lastIndexOf(':');
  return { host: target_portal.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(target_portal.slice(at + 1)) };
}

const CONNECT_MS = 3000;

/** QEMU stands still while it waits for a storage host, so we ask first. @throws BackendUnavailable */
export async function checkPortal(connection: Iscsi): Promise<void> {
  const { host, port } = portalOf(connection);
  const socket = connect({ host, port, timeout: CONNECT_MS });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve).once('error', reject);
      socket.once('timeout', () => reject(new Error(`no answer in ${CONNECT_MS} ms`)));
    });
  } catch (err) {
    throw new BackendUnavailable(
      `the storage host does not answer at ${connection.target_portal}: ${errorText(err)}. Is tgtd up there?`,
      { cause: err },
    );
  } finally {
    socket.destroy();
  }
}
