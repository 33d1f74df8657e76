import { loadClass } from '../../common/class_names.ts';
import { coreFlags, serviceFlags } from '../../common/core_flags.ts';
import type { NovaDb } from '../../common/db/connect.ts';
import { cardsOfHost } from '../../common/db/network_faults.ts';
import { allNetworks } from '../../common/db/networks.ts';
import { guestBridges } from '../../common/db/project_networks.ts';
import { allServices } from '../../common/db/services.ts';
import { differenceKey, type Difference } from '../../common/difference.ts';
import { orEnd, Repairs, twice } from '../../common/doctor.ts';
import type { Flags } from '../../common/flags.ts';
import { Host, hostFlags, rootHelper } from '../../common/linux/host.ts';
import { Iptables } from '../../common/linux/iptables.ts';
import type { Log } from '../../common/log.ts';
import type { NetworkPlace } from '../../common/network_info.ts';
import { MemoryBus } from '../../common/rpc/memory_bus.ts';
import { makeFirewallDriver } from '../../compute/classes.ts';
import { guestFirewallFlags, wantedFirewall } from '../../compute/manager/guest_firewall.ts';
import { makeLookingDriver, makeNetworkDriver, networkDriverFlags, NETWORK_MANAGERS } from '../classes.ts';
import { BRIDGE_RULES, computeNetwork } from '../compute_side.ts';
import type { NetworkDriver } from '../drivers/driver.ts';
import { rowFaults, type RowFault } from './rows.ts';
import { tapFaults } from './taps.ts';

export interface DoctorDeps {
  db: NovaDb;
  flags: Flags;
  log: Log;
}

/** What the second look finds as well: a daemon may have been in the midst of a change. */
export const lookTwice = (deps: DoctorDeps): Promise<Difference[]> => twice(() => look(deps));

/** Everything of this host, and of the rows about networks, that is not as it should be. Nothing is changed. */
export async function look(deps: DoctorDeps): Promise<Difference[]> {
  const { signal } = new AbortController();
  const found = new Map<string, Difference>();
  const tell = (difference: Difference) => void found.set(differenceKey(difference), difference);
  for (const { mend: _mend, ...fault } of await rowsOf(deps)) tell(fault);
  await bring(deps, (binary) => makeLookingDriver({ ...deps, binary }, tell), null, tell, signal);
  const here = await services(deps);
  if (here.compute) {
    const firewall = await makeFirewallDriver(deps);
    for (const one of (await firewall?.look(await firewallOf(deps), signal)) ?? []) tell(one);
    for (const { argv: _argv, ...fault } of await tapFaults(deps.db, hostOf(deps), aHost(deps), signal)) tell(fault);
  }
  return [...found.values()];
}

/** Puts right what `look` finds: first the rows, then what follows from them on this host. @returns what could not be, in words */
export async function repair(deps: DoctorDeps): Promise<string[]> {
  const { signal } = new AbortController();
  const repairs = new Repairs();
  for (const { what, repair: words, mend } of await rowsOf(deps))
    if (mend !== null) await repairs.try(`${what}: '${words}'`, mend);
  const here = await services(deps);
  const mendTaps = async (which: 'leftovers' | 'all') => {
    const host = aHost(deps);
    for (const { argv } of await tapFaults(deps.db, hostOf(deps), host, signal))
      if (argv && (which === 'all' || argv.includes('del'))) await host.run(argv, { ok: [0, 1, 2], signal }); // it may have gone
  };
  if (here.compute) await repairs.try('interfaces of guests that are gone', () => mendTaps('leftovers')); // else a bridge that is to go stays
  await bring(
    deps,
    (binary) => makeNetworkDriver({ ...deps, binary }),
    repairs,
    () => undefined,
    signal,
  );
  if (!here.compute) return repairs.failures;
  await repairs.try('interfaces of guests', () => mendTaps('all'));
  const firewall = await makeFirewallDriver(deps);
  if (firewall === null) return repairs.failures;
  const wanted = await firewallOf(deps);
  await repairs.try('kernel settings for security groups', () => firewall.initHost(signal));
  await repairs.try('security groups', () => firewall.apply(wanted, signal));
  await repairs.try('hairpin of interfaces of guests', () => firewall.reflect(wanted.taps, signal));
  return repairs.failures;
}

const hostOf = ({ flags }: DoctorDeps): string => flags.read(coreFlags).host;
const aHost = ({ flags }: DoctorDeps): Host => new Host({ root_helper: rootHelper(flags.read(hostFlags)) });
const managerOf = ({ flags }: DoctorDeps): string => flags.read(serviceFlags).network_manager;
const firewallOf = (deps: DoctorDeps) => wantedFirewall(deps.db, hostOf(deps), deps.flags.read(guestFirewallFlags));

/** Which daemons this host was ever started with: what has none here needs nothing here. */
async function services(deps: DoctorDeps): Promise<{ network: boolean; compute: boolean }> {
  const { fake_network } = deps.flags.read(networkDriverFlags);
  const rows = (await allServices(deps.db)).filter(({ host }) => host === hostOf(deps));
  const has = (binary: string) => !fake_network && rows.some((row) => row.binary === binary);
  return { network: has('nova-network'), compute: has('nova-compute') };
}

const rowsOf = (deps: DoctorDeps): Promise<RowFault[]> =>
  rowFaults({
    db: deps.db,
    quarantine: managerOf(deps) !== 'nova.network.manager.FlatManager',
    service_down_time_s: deps.flags.read(serviceFlags).service_down_time,
  });

/** The host's part of both daemons, with drivers that look or, for `repairs`, drivers that act. */
async function bring(
  deps: DoctorDeps,
  makeDriver: (binary: string) => Promise<NetworkDriver | null>,
  repairs: Repairs | null,
  tell: (difference: Difference) => void,
  signal: AbortSignal,
): Promise<void> {
  const here = await services(deps);
  const attempt = repairs?.try ?? orEnd;
  const driver = here.network ? await makeDriver('nova-network') : null;
  if (driver) {
    const Manager = await loadClass(NETWORK_MANAGERS, managerOf(deps), 'network_manager');
    const bus = new MemoryBus(); // nobody is asked
    const manager = new Manager({ ...deps, bus, host: hostOf(deps), driver });
    await attempt('the part of nova-network', async () => {
      const problem = await manager.bringHost({ claim: repairs !== null, attempt }, signal);
      if (problem !== null)
        tell({ what: 'floating addresses', expected: 'in force', found: problem, repair: null, advice: 'put that right first' }); // prettier-ignore
    });
  }
  const bridges = here.compute ? await makeDriver(BRIDGE_RULES) : null;
  if (bridges) {
    const compute = await computeNetwork(deps, bridges);
    const places = await placesOf(deps, signal);
    // A looking driver sees the rules of all bridges only where they come together.
    const groups = repairs === null ? [places] : places.map((place) => [place]);
    for (const group of groups.filter(({ length }) => length > 0))
      await attempt(`bridge ${group.map(({ bridge }) => bridge).join()}`, () => compute.setupComputeNetwork(group, signal)); // prettier-ignore
    const guests = () => guestBridges(deps.db, hostOf(deps));
    await attempt('bridges without guests', () => compute.leaveNetworks(guests, signal));
  }
}

/** Networks that have guests on this host, and flat ones that nova-compute let through since its start. */
async function placesOf(deps: DoctorDeps, signal: AbortSignal): Promise<NetworkPlace[]> {
  const cards = await cardsOfHost(deps.db, hostOf(deps));
  const rules = await new Iptables(aHost(deps), BRIDGE_RULES).rules('v4', 'filter', 'FORWARD', signal);
  const through = new Set(rules.map((rule) => /^-i (\S+) -j ACCEPT$/.exec(rule)?.[1]));
  const networks = await allNetworks(deps.db);
  return networks.filter(
    ({ id, bridge, vlan }) => (vlan === null && through.has(bridge)) || cards.some((card) => card.network_id === id),
  );
}
