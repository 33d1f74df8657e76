import { floatingIpsOfHost } from '../../common/db/floating_ips.ts';
import { errorText } from '../../common/errors.ts';
import { defineFlags, string, type FlagValues } from '../../common/flags.ts';
import type { HostAddress } from '../drivers/driver.ts';
import type { Forward } from '../logic/firewall.ts';
import { announceFlags, announceNew } from './announce.ts';
import type { NetworkManagerDeps } from './deps.ts';

export const floatingFlags = defineFlags({
  public_interface: string('eth0', 'Interface that carries floating addresses; of one in a bridge, the bridge does'),
  ...announceFlags,
});

/**
 * The floating addresses that this host answers for, computed whole from the database. The order keeps the host itself
 * from answering at an address: it is bound after its rules are there, and taken off before they go.
 */
export class FloatingHost {
  readonly #d: NetworkManagerDeps;
  readonly #flags: FlagValues<typeof floatingFlags>;

  constructor(deps: NetworkManagerDeps) {
    this.#d = deps;
    this.#flags = deps.flags.read(floatingFlags);
  }

  /**
   * @param applyRules puts the host's rules in force, with these forwards among them
   * @returns why not all is as the database wants it, or null
   */
  async bring(applyRules: (floating: Forward[]) => Promise<void>, signal: AbortSignal): Promise<string | null> {
    const { db, driver, host, log } = this.#d;
    const wanted = await floatingIpsOfHost(db, host);
    const addresses = await driver.hostAddresses(signal);
    const { forwards, problem: own } = withoutOwn(wanted, addresses);
    const { device, problem } = await this.#device(forwards, signal);

    // One that we bound has its mark, or its rule; any other is the host's own, whatever the pool says.
    const before = await driver.forwards(signal);
    const led = new Set(before.map(({ address }) => address));
    const bound = addresses.filter(({ prefix }) => prefix === 32);
    const stay = new Set(forwards.map(({ address }) => address));
    const leave = bound.filter(
      (one) =>
        (one.marked || led.has(one.address)) && (!stay.has(one.address) || (device !== null && one.device !== device)),
    );
    await driver.unbindAddresses(leave, signal);
    for (const { address, device: from } of leave) log.info({ address, from }, 'floating address taken off this host');

    await applyRules(forwards);
    const there = new Set(bound.filter((one) => one.device === device).map(({ address }) => address));
    const come = forwards.map(({ address }) => address).filter((address) => !there.has(address));
    if (device !== null) await driver.bindAddresses(device, come, signal);

    const now = new Map(forwards.map(({ address, fixed }) => [address, fixed]));
    const turned = before.filter(({ address, fixed }) => now.get(address) !== fixed);
    const gone = leave.filter(({ address }) => !stay.has(address));
    await driver.endFlows([...new Set([...turned, ...gone].map(({ address }) => address))], signal);
    if (device !== null) announceNew(this.#d, this.#flags, device, come, signal);
    for (const why of [own, problem]) if (why !== null) log.error({ why }, 'floating addresses not as wanted');
    return own ?? problem;
  }

  async #device(
    forwards: readonly Forward[],
    signal: AbortSignal,
  ): Promise<{ device: string | null; problem: string | null }> {
    if (forwards.length === 0) return { device: null, problem: null };
    try {
      return { device: await this.#d.driver.addressDevice(this.#flags.public_interface, signal), problem: null };
    } catch (err) {
      return { device: null, problem: errorText(err) }; // guests without floating addresses are served all the same
    }
  }
}

/** An address that is the host's own would, led to a guest, cut the host off. */
function withoutOwn(
  wanted: readonly Forward[],
  addresses: readonly HostAddress[],
): { forwards: Forward[]; problem: string | null } {
  const own = new Map(addresses.filter(({ prefix }) => prefix !== 32).map((one) => [one.address, one.device]));
  const taken = wanted.find(({ address }) => own.has(address));
  return {
    forwards: wanted.filter(({ address }) => !own.has(address)),
    problem: taken
      ? `floating ip ${taken.address} is this host's own address on ${own.get(taken.address)}: disassociate it and take it from the pool (nova-manage floating delete ${taken.address})`
      : null,
  };
}
