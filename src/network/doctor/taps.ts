import { cardsOfHost, liveInstanceIds } from '../../common/db/network_faults.ts';
import type { Db } from '../../common/db/connect.ts';
import { ec2InstanceId } from '../../common/db/instances.ts';
import type { Difference } from '../../common/difference.ts';
import type { Host } from '../../common/linux/host.ts';
import { tapName } from '../../compute/logic/tap_name.ts';

/** The parts of `ip -j link show` that are used. */
interface Link {
  ifname: string;
  master?: string;
  flags: string[];
}

/** A tap that is not as it should be, and the command that puts it right. */
export interface TapFault extends Difference {
  argv: string[] | null;
}

/** The host's ends of guests' cards, by their names: those of guests that are gone, and those in a wrong bridge. */
export async function tapFaults(db: Db, host_name: string, host: Host, signal: AbortSignal): Promise<TapFault[]> {
  const links = ((await host.ask(['ip', '-j', 'link', 'show'], signal)) as Link[] | null) ?? [];
  const wanted = await wantedTaps(db, host_name);
  const taps = links.flatMap((link) => {
    const id = parseInt(/^nova([0-9a-f]+)-\d+$/.exec(link.ifname)?.[1] ?? '', 16);
    return Number.isNaN(id) ? [] : [{ ...link, id }];
  });
  const live = await liveInstanceIds(db, [...new Set(taps.map(({ id }) => id))]);
  return taps.flatMap(({ ifname, master, flags, id }): TapFault[] => {
    const what = `interface ${ifname}`;
    const bridge = wanted.get(ifname);
    if (bridge !== undefined) {
      if (master === bridge) return [];
      const found = master === undefined ? 'in no bridge' : `in ${master}`;
      return [{ what, expected: `in ${bridge}, as a card of ${ec2InstanceId(id)}`, found, repair: 'puts it there', argv: ['ip', 'link', 'set', 'dev', ifname, 'master', bridge] }]; // prettier-ignore
    }
    if (live.has(id)) return []; // on its way here or away: its job sees to it
    const expected = `gone with ${ec2InstanceId(id)}`;
    if (flags.includes('LOWER_UP'))
      return [{ what, expected, found: 'a guest holds it', repair: null, advice: 'nova-compute ends that guest in its next period; is it running?', argv: null }]; // prettier-ignore
    return [{ what, expected, found: 'there', repair: 'deletes it', argv: ['ip', 'link', 'del', 'dev', ifname] }];
  });
}

/** The bridge of each card of this host's guests. */
async function wantedTaps(db: Db, host_name: string): Promise<Map<string, string>> {
  const cards = new Map<number, number>();
  const taps = new Map<string, string>();
  for (const { instance_id, bridge } of await cardsOfHost(db, host_name)) {
    const index = cards.get(instance_id) ?? 0;
    cards.set(instance_id, index + 1);
    taps.set(tapName(instance_id, index), bridge);
  }
  return taps;
}
