import type { Difference } from '../../common/difference.ts';
import { errorText } from '../../common/errors.ts';
import type { DhcpHost, DhcpNetworks } from '../logic/dhcp_hosts.ts';
import type { Firewall, Forward } from '../logic/firewall.ts';
import { commandDifferences } from './command_words.ts';
import { dhcpFlags } from './dhcp_flags.ts';
import { waitingDhcpEvents } from './dhcp_events.ts';
import type { BoundAddress, BridgeSpec, HostAddress, LeftOver, NetworkDriver } from './driver.ts';
import { LinuxNetDriver, type LinuxNetOptions } from './linux_net.ts';

/**
 * LinuxNetDriver that changes nothing: what it would change it tells. It runs the same code up to each command that is
 * more than a look, so that the daemon and `nova-manage network doctor` cannot be of two minds.
 */
export class LookingDriver implements NetworkDriver {
  readonly #linux: LinuxNetDriver;
  readonly #networks_path: string;
  readonly #found: (difference: Difference) => void;
  #commands: { argv: readonly string[]; input: string }[] = [];

  /** @param deps see LinuxNetOptions. @param found is told of each difference */
  constructor(deps: Omit<LinuxNetOptions, 'instead'>, found: (difference: Difference) => void) {
    const instead = (argv: readonly string[], input: string) => void this.#commands.push({ argv, input });
    this.#linux = new LinuxNetDriver({ ...deps, instead });
    this.#networks_path = deps.flags.read(dhcpFlags).networks_path;
    this.#found = found;
  }

  /** After the first command that was not run the rest may fail on what is not there: that is told by the command. */
  async #dry<T>(what: string, work: () => Promise<T>): Promise<T | null> {
    this.#commands = [];
    let failed: unknown = null;
    const value = await work().catch((err: unknown) => {
      failed = err;
      return null;
    });
    if (failed !== null && this.#commands.length === 0)
      this.#found({ what, expected: 'as the database and the flags say', found: errorText(failed), repair: null, advice: 'put that right first' }); // prettier-ignore
    for (const difference of commandDifferences(this.#commands)) this.#found(difference);
    return value;
  }

  async #look(differences: Promise<Difference[]>): Promise<void> {
    for (const difference of await differences) this.#found(difference);
  }

  async initHost(options: { metadata: boolean }, signal: AbortSignal): Promise<void> {
    await this.#dry('this host', () => this.#linux.initHost(options, signal));
  }

  async ensureBridge(spec: BridgeSpec, signal: AbortSignal): Promise<string[]> {
    return (await this.#dry(`interface ${spec.bridge}`, () => this.#linux.ensureBridge(spec, signal))) ?? [];
  }

  async updateDhcp(networks: DhcpNetworks, hosts: readonly DhcpHost[]): Promise<void> {
    await this.#look(this.#linux.lookAtDhcp(networks, hosts));
  }

  async drainDhcpEvents(): Promise<void> {
    for (const { file, event } of await waitingDhcpEvents(this.#networks_path))
      this.#found({
        what: `lease of ${event.address}`,
        expected: `"${event.event}" of ${event.mac} in the database`,
        found: `it waits in ${file}`,
        repair: 'writes it down',
      });
  }

  watchDhcpEvents(): void {}

  async releaseLease(): Promise<void> {}

  async applyFirewall(firewall: Firewall, signal: AbortSignal): Promise<void> {
    await this.#look(this.#linux.lookAtFirewall(firewall, signal));
  }

  forwards(signal: AbortSignal): Promise<Forward[]> {
    return this.#linux.forwards(signal);
  }

  hostAddresses(signal: AbortSignal): Promise<HostAddress[]> {
    return this.#linux.hostAddresses(signal);
  }

  addressDevice(name: string, signal: AbortSignal): Promise<string> {
    return this.#linux.addressDevice(name, signal);
  }

  async bindAddresses(device: string, addresses: readonly string[], signal: AbortSignal): Promise<void> {
    await this.#dry(`interface ${device}`, () => this.#linux.bindAddresses(device, addresses, signal));
  }

  async unbindAddresses(addresses: readonly BoundAddress[], signal: AbortSignal): Promise<void> {
    // The driver looks again whether they went, and then runs a second command.
    await this.#dry('floating addresses', () => this.#linux.unbindAddresses(addresses, signal));
  }

  async announce(): Promise<void> {}

  async endFlows(): Promise<void> {}

  bridges(signal: AbortSignal): Promise<{ name: string; own: boolean }[]> {
    return this.#linux.bridges(signal);
  }

  bridgesLetThrough(signal: AbortSignal): Promise<string[]> {
    return this.#linux.bridgesLetThrough(signal);
  }

  dhcpAddresses(bridge: string): Promise<string[]> {
    return this.#linux.dhcpAddresses(bridge);
  }

  dhcpBridges(): Promise<string[]> {
    return this.#linux.dhcpBridges();
  }

  async removeNetwork(spec: BridgeSpec, signal: AbortSignal): Promise<LeftOver | null> {
    await this.#look(this.#linux.lookAtFormerDhcp(spec.bridge));
    return this.#dry(`interface ${spec.bridge}`, () => this.#linux.removeBridge(spec, signal));
  }

  async takeDown(): Promise<LeftOver[]> {
    return [];
  }
}
