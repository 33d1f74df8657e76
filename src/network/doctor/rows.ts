import type { NovaDb } from '../../common/db/connect.ts';
import { releaseFixedIps } from '../../common/db/fixed_ips.ts';
import { ec2InstanceId } from '../../common/db/instances.ts';
import {
  addressesOfDeletedNetworks,
  addressesOfGoneInstances,
  cardsOfGoneInstances,
  doubledHostAddresses,
  dropCard,
  dropHostAddress,
  endAssociationTo,
  floatingToNowhere,
  freeNetworkOf,
  guestsAtGateways,
} from '../../common/db/network_faults.ts';
import { allNetworks, floatingBetween, type Network } from '../../common/db/networks.ts';
import { allServices, liveServices } from '../../common/db/services.ts';
import { textIn } from '../../common/clock.ts';
import type { Difference } from '../../common/difference.ts';
import { overlaps, parseCidr } from '../logic/addresses.ts';

/** A difference between rows, and what puts it right; null where only a person can. */
export interface RowFault extends Difference {
  mend: (() => Promise<void>) | null;
}

export interface RowsDeps {
  db: NovaDb;
  /** Whether addresses that are given up wait before they are given again, as the network manager has it. */
  quarantine: boolean;
  service_down_time_s: number;
}

/** All that contradicts itself in the rows about networks, of every host. */
export async function rowFaults(deps: RowsDeps): Promise<RowFault[]> {
  const networks = await allNetworks(deps.db);
  return [
    ...(await goneInstances(deps)),
    ...(await goneTargets(deps.db)),
    ...(await deadHosts(deps, networks)),
    ...(await doubles(deps.db, networks)),
    ...(await gatewaysOfGuests(deps.db)),
    ...(await deletedNetworks(deps.db)),
    ...(await floatingInNetworks(deps.db, networks)),
  ];
}

async function goneInstances({ db, quarantine }: RowsDeps): Promise<RowFault[]> {
  const addresses = (await addressesOfGoneInstances(db)).map(({ instance_id, address }): RowFault => ({
    what: `fixed address ${address}`,
    expected: `not allocated, since ${ec2InstanceId(instance_id)} is gone`,
    found: 'allocated to it',
    repair: quarantine ? 'gives it back: it is free when its lease is over' : 'gives it back',
    mend: async () => void (await releaseFixedIps(db, instance_id, quarantine)),
  }));
  const cards = (await cardsOfGoneInstances(db)).map(({ id, mac, instance_id }): RowFault => ({
    what: `virtual interface ${mac}`,
    expected: `gone with ${ec2InstanceId(instance_id)}`,
    found: 'a row',
    repair: 'deletes the row',
    mend: () => dropCard(db, id),
  }));
  return [...addresses, ...cards];
}

const goneTargets = async (db: NovaDb): Promise<RowFault[]> =>
  (await floatingToNowhere(db)).map(({ address, fixed_ip_id }) => ({
    what: `floating address ${address}`,
    expected: 'associated with an address that an instance has, or with none',
    found: 'associated with one that was given back',
    repair: 'disassociates it; its project keeps it, unless it came by --auto_assign_floating_ip',
    mend: () => endAssociationTo(db, fixed_ip_id),
  }));

/** A host that never had a nova-network cannot serve; one that is silent may still hold the gateway address. */
async function deadHosts({ db, service_down_time_s }: RowsDeps, networks: readonly Network[]): Promise<RowFault[]> {
  const known = new Set((await allServices(db)).filter((row) => row.binary === 'nova-network').map((row) => row.host));
  const live = new Set((await liveServices(db, textIn(-service_down_time_s), 'network')).map((row) => row.host));
  return networks.flatMap(({ id, cidr, host }): RowFault[] => {
    if (host === null || live.has(host)) return [];
    const what = `network ${cidr}`;
    const expected = 'served by a host with a live nova-network';
    if (!known.has(host))
      return [{ what, expected, found: `it belongs to ${host}, which has no nova-network`, repair: 'lets the first nova-network that asks have it', mend: () => freeNetworkOf(db, id, host) }]; // prettier-ignore
    const advice = `start it there; or, once ${host} is off and cannot answer as the gateway any more, nova-manage network modify ${cidr} --host=NAME`;
    const found = `it belongs to ${host}, whose nova-network has not reported for ${service_down_time_s} s or was stopped`;
    return [{ what, expected, found, repair: null, advice, mend: null }];
  });
}

const deletedNetworks = async (db: NovaDb): Promise<RowFault[]> =>
  (await addressesOfDeletedNetworks(db)).map(({ instance_id, address, cidr }) => ({
    what: `fixed address ${address}`,
    expected: 'of a network that is there',
    found: `allocated to ${ec2InstanceId(instance_id)} on ${cidr}, which was deleted`,
    repair: null,
    advice: `terminate ${ec2InstanceId(instance_id)}, which has no network any more`,
    mend: null,
  }));

async function floatingInNetworks(db: NovaDb, networks: readonly Network[]): Promise<RowFault[]> {
  const faults: RowFault[] = [];
  for (const { cidr } of networks) {
    const { base, size } = parseCidr(cidr);
    const inside = (await floatingBetween(db, base, base + size - 1)).map(({ address }) => address);
    if (inside.length === 0) continue;
    const some = inside.slice(0, 3).join(', ') + (inside.length > 3 ? ` and ${inside.length - 3} more` : '');
    faults.push({
      what: `network ${cidr}`,
      expected: 'no address of the floating pool',
      found: `${some} are floating addresses too`,
      repair: null,
      advice: `take them out of the pool: nova-manage floating delete ${cidr}`,
      mend: null,
    });
  }
  return faults;
}

const gatewaysOfGuests = async (db: NovaDb): Promise<RowFault[]> =>
  (await guestsAtGateways(db)).map(({ instance_id, address, cidr }) => ({
    what: `fixed address ${address}`,
    expected: `nobody's but the host's, since it is the gateway of network ${cidr}`,
    found: `allocated to ${ec2InstanceId(instance_id)}`,
    repair: null,
    advice: `terminate ${ec2InstanceId(instance_id)}; the address is never given again`,
    mend: null,
  }));

async function doubles(db: NovaDb, networks: readonly Network[]): Promise<RowFault[]> {
  const own = (await doubledHostAddresses(db)).map(({ id, host, address }): RowFault => ({
    what: `host ${host}`,
    expected: 'one address of its own on a multi_host network',
    found: `${address} beside an older one`,
    repair: `lets guests have ${address}`,
    mend: () => dropHostAddress(db, id),
  }));
  const pairs = networks.flatMap((one, i) => networks.slice(i + 1).map((other) => [one, other] as const));
  const overlapping = pairs
    .filter(([one, other]) => overlaps(parseCidr(one.cidr), parseCidr(other.cidr)))
    .map(([one, other]): RowFault => ({
      what: `network ${other.cidr}`,
      expected: 'addresses that no other network has',
      found: `${one.cidr} has some of them too`,
      repair: null,
      advice: `delete the instances of one of the two, then that network: nova-manage network delete ${other.cidr}`,
      mend: null,
    }));
  return [...own, ...overlapping];
}
