import { BackendUnavailable, InvalidInput, ProcessExecutionError } from '../../common/errors.ts';
import type { ExecuteResult } from '../../common/execute.ts';
import { defineFlags, string, type Flags } from '../../common/flags.ts';
import type { Host } from '../../common/linux/host.ts';
import { sleep } from '../../common/clock.ts';
import type { Vlan } from './driver.ts';
import { bringUp, linkOf, type VlanInterfaces } from './vlan_interfaces.ts';

export const ovsFlags = defineFlags({
  linuxnet_ovs_integration_bridge: string('br-int', 'Open vSwitch bridge whose ports carry VLANs'),
});

/** In the interface's external_ids: only ports with it are taken away again. */
const MARK = 'nova=nova-network';
/** ovs-vsctl returns when ovs-vswitchd has made the device; under load it may show a little later. */
const LOOKS = 100;

/**
 * Open vSwitch in place of the kernel's 802.1q: an internal port of the integration bridge with the VLAN as its tag. The
 * bridge, and the port of it that leads to the other hosts, are the operator's. The device it makes is an ordinary one.
 */
export class OvsVlans implements VlanInterfaces {
  readonly #host: Host;
  readonly #integration_bridge: string;
  constructor({ host, flags }: { host: Host; flags: Flags }) {
    this.#host = host;
    this.#integration_bridge = flags.read(ovsFlags).linuxnet_ovs_integration_bridge;
  }

  async ensure(name: string, { id }: Vlan, signal: AbortSignal): Promise<void> {
    const bridge = this.#integration_bridge;
    await this.#checkBridge(bridge, id, signal);
    const on = await this.#bridgeOf(name, signal);
    if (on === null && (await linkOf(this.#host, name, signal)))
      throw new InvalidInput(`${name} is there and is no port of Open vSwitch: take the interface away`);
    if (on !== null && on !== bridge)
      throw new InvalidInput(
        `${name} is a port of ${on} and not of ${bridge}: take it away (ovs-vsctl del-port ${on} ${name}), or change --linuxnet_ovs_integration_bridge`,
      );
    const tag = on === null ? '' : (await this.#vsctl(['get', 'port', name, 'tag'], signal)).stdout.trim();
    if (tag !== String(id)) {
      const port = ['--may-exist', 'add-port', bridge, name, '--', 'set', 'port', name, `tag=${id}`];
      const device = ['--', 'set', 'interface', name, 'type=internal', `external_ids:${MARK}`];
      await this.#vsctl([...port, ...device], signal);
    }
    const looks = this.#host.only_looks ? 0 : LOOKS;
    for (let i = 0; i < looks && !(await linkOf(this.#host, name, signal)); i++) await sleep(50, signal);
    await bringUp(this.#host, name, signal);
  }

  async #checkBridge(bridge: string, id: number, signal: AbortSignal): Promise<void> {
    const { exit_code } = await this.#vsctl(['br-exists', bridge], signal, [0, 2]);
    if (exit_code !== 0)
      throw new BackendUnavailable(
        `VLAN ${id}: Open vSwitch has no bridge ${bridge} here: make it, with the interface to the other hosts in it ` +
          `(ovs-vsctl add-br ${bridge} -- add-port ${bridge} eth1), or name yours by --linuxnet_ovs_integration_bridge`,
      );
  }

  async #bridgeOf(port: string, signal: AbortSignal): Promise<string | null> {
    const { stdout, exit_code } = await this.#vsctl(['port-to-br', port], signal, [0, 1]);
    return exit_code === 0 ? stdout.trim() : null;
  }

  async remove(name: string, signal: AbortSignal): Promise<void> {
    const { stdout } = await this.#vsctl(
      ['--if-exists', 'get', 'interface', name, 'external_ids:nova'],
      signal,
      [0, 1],
    );
    if (stdout.trim() !== MARK.split('=')[1]) return;
    await this.#vsctl(['--if-exists', 'del-port', name], signal);
  }

  async #vsctl(words: readonly string[], signal: AbortSignal, ok: readonly number[] = [0]): Promise<ExecuteResult> {
    try {
      return await this.#host.run(['ovs-vsctl', '--timeout=10', ...words], { signal, ok: [...ok] });
    } catch (err) {
      if (!(err instanceof ProcessExecutionError)) throw err;
      throw new BackendUnavailable(
        `Open vSwitch does not answer (ovs-vsctl ${words.join(' ')}): is openvswitch-switch installed, and does it run? ${err.message}`,
        { cause: err },
      );
    }
  }
}
