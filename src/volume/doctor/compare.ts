import type { Difference } from '../../common/difference.ts';
import type { VolumeStatus } from '../../common/volume_state.ts';
import type { Inventory } from '../drivers/driver.ts';

/** What the database says of this storage host, and what is there. */
export interface StoreFacts {
  host: string;
  volumes: readonly { id: number; name: string; status: string }[];
  snapshots: readonly { id: number; name: string; status: string }[];
  /** Live ones, of those volumes. */
  attachments: readonly { id: number; volume_id: number; instance: string; instance_gone: boolean; status: string }[];
  /** Target numbers that this host gave out. */
  targets: readonly { target_num: number; volume_id: number }[];
  store: Inventory;
  /** Names of volumes and snapshots of this host that were deleted for good. */
  deleted: { volumes: readonly { id: number; name: string }[]; snapshots: readonly { id: number; name: string }[] };
}

/** What a repair does; each is done by doctor.ts. */
export type Mend =
  | { do: 'end attachment'; attachment_id: number; volume_id: number }
  | { do: 'free volume'; volume_id: number }
  /** As its attachment says. */
  | { do: 'hold volume'; volume_id: number; status: VolumeStatus }
  | { do: 'delete bytes'; kind: 'volume' | 'snapshot'; id: number }
  /** As the database says: open to the attachment, or to nobody and without a number. */
  | { do: 'refresh export'; volume_id: number };
/** Null: nothing a program should do. */
export type Fault = Difference & { mend: Mend | null };

/** Statuses in which the bytes are there; in the others they may be, or not yet, or not any more. */
const WHOLE = ['available', 'attaching', 'in-use', 'detaching'];
const HELD = ['attaching', 'in-use', 'detaching'];

const fault = (what: string, expected: string, found: string, repair: string, mend: Mend): Fault => ({
  what,
  expected,
  found,
  repair,
  mend,
});
const advice = (what: string, expected: string, found: string, words: string): Fault => ({
  what,
  expected,
  found,
  repair: null,
  advice: words,
  mend: null,
});

/** Everything of the store, its exports and the rows about them that is not as it should be. */
export function compareStore(facts: StoreFacts): Fault[] {
  return [
    ...attachmentFaults(facts),
    ...byteFaults(facts, 'snapshot'), // before their volumes, which LVM does not let go with snapshots
    ...byteFaults(facts, 'volume'),
    ...exportFaults(facts),
  ];
}

function attachmentFaults({ volumes, attachments }: StoreFacts): Fault[] {
  const of = new Map(attachments.map((attachment) => [attachment.volume_id, attachment]));
  return volumes.flatMap(({ id, name, status }) => {
    const attachment = of.get(id);
    if (attachment?.instance_gone)
      return fault(
        name,
        'attached to no instance that is gone',
        `${attachment.status} at ${attachment.instance}, which is gone`,
        'ends the attachment',
        { do: 'end attachment', attachment_id: attachment.id, volume_id: id },
      );
    if (attachment && status === 'available') {
      const held = attachment.status === 'attached' ? 'in-use' : (attachment.status as VolumeStatus);
      return fault(
        name,
        `${held}, since it is ${attachment.status} at ${attachment.instance}`,
        'available',
        `makes it ${held}`,
        { do: 'hold volume', volume_id: id, status: held },
      );
    }
    if (!attachment && HELD.includes(status))
      return fault(name, 'available, since nothing has it', status, 'makes it available', {
        do: 'free volume',
        volume_id: id,
      });
    return [];
  });
}

/** Bytes without a row are only taken away when a row says that they were to go: another cloud's may be in the same place. */
function byteFaults({ host, deleted, store, ...facts }: StoreFacts, kind: 'volume' | 'snapshot'): Fault[] {
  const [rows, there, half_made, gone] =
    kind === 'volume'
      ? [facts.volumes, store.volumes, store.half_made.volumes, deleted.volumes]
      : [facts.snapshots, store.snapshots, store.half_made.snapshots, deleted.snapshots];
  const missing = rows.filter(({ name, status }) => WHOLE.includes(status) && !there.includes(name));
  const extra = [...new Set([...there, ...half_made])].filter((name) => !rows.some((row) => row.name === name));
  return [
    ...missing.map(({ name, status }) =>
      advice(
        name,
        `its bytes at the store of ${host}, since it is ${status}`,
        'none',
        `put them back, or delete the ${kind}: no program can make them again`,
      ),
    ),
    ...extra.map((name) => {
      const row = gone.find((one) => one.name === name);
      return row === undefined
        ? advice(
            name,
            `a ${kind} of this database`,
            'bytes that no row ever named',
            'is it another cloud’s? Else remove them',
          )
        : fault(name, 'nothing: it was deleted', 'its bytes are left', 'deletes them', {
            do: 'delete bytes',
            kind,
            id: row.id,
          });
    }),
  ];
}

function exportFaults({ volumes, attachments, targets, store, deleted }: StoreFacts): Fault[] {
  const ids = new Map([...deleted.volumes, ...volumes].map(({ id, name }) => [name, id]));
  const held = new Map(attachments.filter((one) => !one.instance_gone).map((one) => [one.volume_id, one]));
  const closed = store.exports.flatMap((name) => {
    const volume_id = ids.get(name);
    const what = `export of ${name}`;
    if (volume_id === undefined)
      return advice(
        what,
        'a volume of this database',
        'one that no row ever named',
        'is it another cloud’s? Else take it away',
      );
    if (held.has(volume_id)) return [];
    return fault(what, 'none, since nothing has the volume', 'open', 'closes it', { do: 'refresh export', volume_id });
  });
  const opened = volumes.flatMap(({ id, name, status }) => {
    const attachment = held.get(id);
    // While it is attaching the export may not be open yet.
    if (attachment?.status !== 'attached' || status !== 'in-use' || store.exports.includes(name)) return [];
    const mend = { do: 'refresh export', volume_id: id } as const;
    return fault(`export of ${name}`, `open to ${attachment.instance}`, 'none', 'opens it', mend);
  });
  const numbers = targets.flatMap(({ target_num, volume_id }) => {
    if (held.has(volume_id)) return [];
    const found = `kept for volume ${volume_id}, which nothing has`;
    const mend = { do: 'refresh export', volume_id } as const;
    return fault(`iSCSI target number ${target_num}`, 'free', found, 'frees it', mend);
  });
  return [...closed, ...opened, ...numbers];
}
