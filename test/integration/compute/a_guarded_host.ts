import { execute } from '../../../src/common/execute.ts';
import type { NovaDb } from '../../../src/common/db/connect.ts';
import { Flags } from '../../../src/common/flags.ts';
import { silentLog } from '../../../src/common/log.ts';
import { MemoryBus } from '../../../src/common/rpc/memory_bus.ts';
import { IptablesFirewallDriver } from '../../../src/compute/drivers/libvirt/firewall.ts';
import { tapName } from '../../../src/compute/logic/tap_name.ts';
import { GuestFirewall } from '../../../src/compute/manager/guest_firewall.ts';
import { ProviderFirewallApi } from '../../../src/compute/provider_firewall_api.ts';
import { SecurityGroupApi } from '../../../src/compute/security_group_api.ts';
import type { TestContext } from 'node:test';
import { aContext, aDatabase, aFixedIp, anInstance, aNetwork, aProject } from '../../builders.ts';
import { startHost, type Host } from '../../rigs/netns.ts';

/** A guest on the host's bridge: a host of its own, on a veth that is called as libvirt calls a guest's card. */
export interface Guest extends Host {
  id: number;
  ip: string;
  tap: string;
}

/** A compute host with a bridge, real rules, and a database that says what they are to be. */
export interface GuardedHost {
  db: NovaDb;
  host: Host;
  api: SecurityGroupApi;
  provider: ProviderFirewallApi;
  firewall: GuestFirewall;
  /** From here on rules are in force, as from the start of nova-compute. */
  guard(): Promise<void>;
  /** Makes an instance in these groups with a card, and its guest. @param address 10.77.0.N */
  guest(n: number, groups?: readonly string[]): Promise<Guest>;
  /** What nova-compute does when it takes an instance away. */
  terminate(guest: Guest): Promise<void>;
  /** Waits until every nudge so far was answered. */
  settled(): Promise<void>;
}

export const ctx = aContext();

export async function aGuardedHost(t: TestContext, given: Record<string, unknown> = {}): Promise<GuardedHost> {
  const db = await aDatabase(t);
  await aProject(db);
  const host = await startHost(t, 'node1');
  await host.exec(['ip', '-batch', '-'], {
    input: 'link add br100 type bridge\nlink set br100 up\naddr add 10.77.0.1/24 dev br100\n',
  });
  const flags = Flags.of({ allow_project_net_traffic: false, ...given });
  const bus = new MemoryBus();
  const driver = new IptablesFirewallDriver({ flags, log: silentLog, prefix: host.enter });
  const firewall = new GuestFirewall({ db, flags, log: silentLog, bus, host: 'node1', firewall: driver });
  const told = new Set<Promise<void>>();
  await bus.consume('compute', 'node1', () => {
    const work = firewall.refresh();
    told.add(work);
    return work;
  });
  const network_id = await aNetwork(db, { cidr: '10.77.0.0/24', gateway: '10.77.0.1', broadcast: '10.77.0.255' });
  const api = new SecurityGroupApi({ db, flags, bus, log: silentLog });
  await api.list(ctx);
  const provider = new ProviderFirewallApi({ db, bus, log: silentLog });
  let guarded = false;
  return {
    db,
    host,
    api,
    provider,
    firewall,
    async guard() {
      guarded = true;
      await firewall.initHost(t.signal);
    },
    async guest(n, groups = ['default']) {
      const id = await anInstance(db);
      const ip = `10.77.0.${n}`;
      await aFixedIp(db, { network_id, instance_id: id, address: ip });
      for (const name of groups) {
        const group = await api.get(ctx, { name });
        await db
          .insertInto('security_group_instance_association')
          .values({ instance_id: id, security_group_id: group.id, created_at: 'now' })
          .execute();
      }
      const made = await startHost(t, `guest${n}`);
      const guest = Object.assign(made, { id, ip, tap: tapName(id, 0) });
      const mac = `02:16:3e:4d:00:${n.toString(16).padStart(2, '0')}`;
      const peer = ['type', 'veth', 'peer', 'name', 'eth0', 'address', mac, 'netns', String(made.pid)];
      await execute(['ip', 'link', 'add', guest.tap, 'netns', String(host.pid), ...peer]);
      await host.exec(['ip', 'link', 'set', guest.tap, 'master', 'br100', 'up']);
      await guest.exec(['ip', 'addr', 'add', `${ip}/24`, 'dev', 'eth0']);
      await guest.exec(['ip', 'link', 'set', 'eth0', 'up']);
      const forwarding = 'until [ "$(cat "/sys/class/net/$0/brport/state")" = 3 ]; do sleep 0.05; done';
      await host.exec(['sh', '-c', forwarding, guest.tap], { timeout_ms: 120_000 });
      const up = 'until [ "$(cat /sys/class/net/eth0/operstate)" = up ]; do sleep 0.05; done';
      await guest.exec(['sh', '-c', up], { timeout_ms: 120_000 });
      if (guarded) await firewall.join(ctx, id);
      return guest;
    },
    async terminate(guest) {
      await host.exec(['ip', 'link', 'del', guest.tap]);
      await db.deleteFrom('fixed_ips').where('instance_id', '=', guest.id).execute();
      await db.deleteFrom('virtual_interfaces').where('instance_id', '=', guest.id).execute();
      await firewall.leave(ctx, guest.id);
      await db.updateTable('instances').set({ deleted: 1 }).where('id', '=', guest.id).execute();
    },
    async settled() {
      await new Promise((resolve) => setImmediate(resolve)); // messages of the bus go out then
      await Promise.all(told);
    },
  };
}

/** Whether one ping of two is answered. @param wait_s less where no answer is expected, since that is waited for in vain */
export async function pings(from: Host, ip: string, wait_s = 5): Promise<boolean> {
  return (await from.exec(['ping', '-c2', '-i0.2', `-W${wait_s}`, ip], { ok: [0, 1] })).exit_code === 0;
}

/** What iptables-save, ebtables-save and ipset print of a host, without counters. */
export async function rulesOn(host: Host): Promise<string> {
  const said = await Promise.all(
    [['iptables-save'], ['ebtables-save'], ['ipset', 'save']].map(async (argv) => (await host.exec(argv)).stdout),
  );
  return said
    .join('\n')
    .replace(/^#.*\n/gm, '')
    .replace(/^(:\S+ \S+) \[.*$/gm, '$1');
}
