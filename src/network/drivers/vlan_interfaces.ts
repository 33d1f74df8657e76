import { BackendUnavailable, InvalidInput } from '../../common/errors.ts';
import type { Flags } from '../../common/flags.ts';
import { needing, type Host } from '../../common/linux/host.ts';
import type { Vlan } from './driver.ts';

/** Interfaces of a host that carry one VLAN each, untagged on the host's side. Doing a thing again changes nothing. */
export interface VlanInterfaces {
  /** @throws BackendUnavailable, InvalidInput */
  ensure(name: string, vlan: Vlan, signal: AbortSignal): Promise<void>;
  /** One that is not there, or was not made here, is left so. */
  remove(name: string, signal: AbortSignal): Promise<void>;
}

export type VlanInterfacesClass = new (deps: { host: Host; flags: Flags }) => VlanInterfaces;

const MARK = 'nova-network';

interface Link {
  ifname?: string;
  ifalias?: string;
  flags?: string[];
  link?: string;
  linkinfo?: { info_kind?: string; info_data?: { id?: number } };
}

export async function linkOf(host: Host, name: string, signal: AbortSignal): Promise<Link | undefined> {
  const links = (await host.ask(['ip', '-j', '-d', 'link', 'show', 'dev', name], signal)) as Link[] | null;
  return links?.find((link) => link.ifname === name);
}

export async function bringUp(host: Host, name: string, signal: AbortSignal): Promise<void> {
  const link = await linkOf(host, name, signal);
  if (!link?.flags?.includes('UP')) await host.run(['ip', 'link', 'set', 'dev', name, 'up'], { signal });
}

/** The kernel's own 802.1q. Source: Nova 2011.2 nova/network/linux_net.py, ensure_vlan. */
export class KernelVlans implements VlanInterfaces {
  readonly #host: Host;
  constructor({ host }: { host: Host }) {
    this.#host = host;
  }

  async ensure(name: string, { id, parent }: Vlan, signal: AbortSignal): Promise<void> {
    if (!(await linkOf(this.#host, name, signal))) await this.#make(name, { id, parent }, signal);
    const link = await linkOf(this.#host, name, signal);
    const { info_kind: kind = 'plain interface', info_data } = link?.linkinfo ?? {};
    if (kind !== 'vlan' || info_data?.id !== id || link?.link !== parent)
      throw new InvalidInput(
        `${name} is there and is not VLAN ${id} of ${parent} (a ${kind} of ${link?.link ?? 'nothing'}): take it away, or change --vlan_interface`,
      );
    await bringUp(this.#host, parent, signal);
    await bringUp(this.#host, name, signal);
  }

  async #make(name: string, { id, parent }: Vlan, signal: AbortSignal): Promise<void> {
    if (!(await linkOf(this.#host, parent, signal)))
      throw new InvalidInput(`interface ${parent} for VLAN ${id} is not on this host: set --vlan_interface`);
    // In one: an interface without the mark is the operator's for ever.
    const add = `link add link ${parent} name ${name} type vlan id ${id}\nlink set dev ${name} alias ${MARK}\n`;
    const batch = ['ip', '-batch', '-'];
    const { exit_code, stderr } = await this.#host.run(batch, { input: add, ok: [0, 1, 2], signal });
    if (exit_code === 0) return;
    if (/File exists/.test(stderr)) return; // nova-network and nova-compute of one host may both make it
    if (/not supported|Unknown device type|Invalid argument/i.test(stderr))
      throw new BackendUnavailable(
        `VLAN ${id} on ${parent}: this kernel has no 802.1q (${stderr.split('\n')[0]}). Load its module 8021q, or let Open vSwitch do it: ` +
          '--linuxnet_interface_driver=nova.network.linux_net.LinuxOVSInterfaceDriver',
      );
    await needing(`making VLAN ${id} on ${parent}`, this.#host.run(batch, { input: add, signal }));
  }

  async remove(name: string, signal: AbortSignal): Promise<void> {
    const link = await linkOf(this.#host, name, signal);
    if (link?.ifalias !== MARK || link.linkinfo?.info_kind !== 'vlan') return;
    await this.#host.run(['ip', 'link', 'del', 'dev', name], { ok: [0, 1, 2], signal });
    if (await linkOf(this.#host, name, signal)) await this.#host.run(['ip', 'link', 'del', 'dev', name], { signal });
  }
}
