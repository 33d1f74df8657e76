import assert from 'node:assert/strict';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { BackendUnavailable, InvalidInput } from '../../src/common/errors.ts';
import { Flags } from '../../src/common/flags.ts';
import { Host as LinuxHost } from '../../src/common/linux/host.ts';
import { OvsVlans } from '../../src/network/drivers/ovs_vlans.ts';
import { KernelVlans } from '../../src/network/drivers/vlan_interfaces.ts';
import { needs } from '../rigs/needs.ts';
import { startHost, type Host } from '../rigs/netns.ts';
import { OPENVSWITCH, startOpenVswitch } from '../rigs/openvswitch.ts';
import { tempDir, type Scope } from '../rigs/tmp.ts';

/** --linuxnet_interface_driver: what makes a VLAN's interface. */
const skip = needs('root', 'nsenter', 'unshare', 'ip');
const skip_ovs = needs('root', 'nsenter', 'unshare', 'ip', ...OPENVSWITCH);
const signal = new AbortController().signal;
const vlan = { id: 100, parent: 'eth1' };

async function aHost(t: Scope): Promise<Host> {
  const host = await startHost(t, 'node1');
  await host.exec(['ip', 'link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', 'far1']);
  return host;
}
const linux = (host: Host) => new LinuxHost({ prefix: host.enter });
const links = async (host: Host) => (await host.exec(['ip', '-br', 'link'])).stdout;

const has_vlans =
  skip === false &&
  (await (async () => {
    const endings: (() => Promise<void>)[] = [];
    const host = await aHost({ after: (fn) => void endings.push(fn) });
    const add = ['ip', 'link', 'add', 'link', 'eth1', 'name', 'v1', 'type', 'vlan', 'id', '1'];
    const { exit_code } = await host.exec(add, { ok: [0, 1, 2] });
    for (const end of endings) await end();
    return exit_code === 0;
  })());

/** In place of `ip` on a kernel with 802.1q: it notes its words, and answers as iproute2 does there. */
function aKernelWithVlans(t: Scope): { host: LinuxHost; changes: () => string[] } {
  const dir = tempDir(t, 'ip');
  const script = join(dir, 'run');
  const row = (alias: string) => `[{"ifname":"vlan100","link":"eth1","flags":[]${alias},"linkinfo":{"info_kind":"vlan","info_data":{"protocol":"802.1Q","id":100}}}]`; // prettier-ignore
  writeFileSync(
    script,
    `#!/bin/sh
    cd ${dir}
    case "$*" in
      *" link show dev eth1") echo '[{"ifname":"eth1","flags":["UP"]}]'; exit ;;
      *" link show dev vlan100") [ -e vlan ] && cat vlan; exit ;;
      *" link show dev "*) exit 1 ;;
    esac
    { if [ "$*" = "ip -batch -" ]; then sed 's/^/ip /'; else echo "$*"; fi; } >now
    cat now >>log
    while read -r line; do
      case "$line" in
        "ip link add "*) echo '${row('')}' >vlan ;;
        *" alias nova-network") echo '${row(',"ifalias":"nova-network"')}' >vlan ;;
        "ip link del "*) rm vlan ;;
      esac
    done <now`,
  );
  chmodSync(script, 0o755);
  const changes = () => readFileSync(join(dir, 'log'), 'utf8').trim().split('\n');
  return { host: new LinuxHost({ prefix: [script] }), changes };
}

test("the kernel's 802.1q is asked for a VLAN once, by these commands (of ip on paper: no 802.1q need be in this kernel)", async (t) => {
  const { host, changes } = aKernelWithVlans(t);
  const vlans = new KernelVlans({ host });

  await vlans.ensure('vlan100', vlan, signal);
  const made = changes();
  await vlans.remove('vlan100', signal);
  await vlans.remove('vlan100', signal);

  assert.deepEqual(made, [
    'ip link add link eth1 name vlan100 type vlan id 100',
    'ip link set dev vlan100 alias nova-network',
    'ip link set dev vlan100 up',
  ]);
  assert.deepEqual(changes().slice(made.length), ['ip link del dev vlan100']);
  await vlans.ensure('vlan100', vlan, signal);
  await assert.rejects(
    vlans.ensure('vlan100', { id: 101, parent: 'eth1' }, signal),
    (err) => err instanceof InvalidInput && /vlan100 is there and is not VLAN 101 of eth1/.test(err.message),
  );
});

if (has_vlans)
  test("the kernel's 802.1q makes a VLAN once and takes it away", { skip }, async (t) => {
    const host = await aHost(t);
    const vlans = new KernelVlans({ host: linux(host) });

    await vlans.ensure('vlan100', vlan, signal);
    await vlans.ensure('vlan100', vlan, signal);
    assert.match(await links(host), /^vlan100@eth1 /m);
    await vlans.remove('vlan100', signal);
    assert.doesNotMatch(await links(host), /vlan100/);
  });
else
  test('a kernel without 802.1q, as this one, is named with the flag to use instead', { skip }, async (t) => {
    const vlans = new KernelVlans({ host: linux(await aHost(t)) });

    await assert.rejects(
      vlans.ensure('vlan100', vlan, signal),
      (err) =>
        err instanceof BackendUnavailable &&
        /VLAN 100 on eth1: this kernel has no 802\.1q.*--linuxnet_interface_driver=nova\.network\.linux_net\.LinuxOVSInterfaceDriver/.test(
          err.message,
        ),
    );
  });

test('an interface that is not there is named with the flag', { skip }, async (t) => {
  const vlans = new KernelVlans({ host: linux(await aHost(t)) });

  const refused = vlans.ensure('vlan100', { id: 100, parent: 'eth9' }, signal);

  await assert.rejects(refused, (err) => err instanceof InvalidInput && /eth9.*--vlan_interface/.test(err.message));
});

test(
  'Open vSwitch makes a port with the VLAN as its tag, once, and takes away its own ports only',
  { skip: skip_ovs },
  async (t) => {
    const host = await aHost(t);
    await startOpenVswitch(t, { host });
    const vsctl = async (...words: string[]) => (await host.exec(['ovs-vsctl', ...words])).stdout.trim();
    const vlans = new OvsVlans({ host: linux(host), flags: Flags.of() });

    await vlans.ensure('vlan100', vlan, signal);
    const uuid = await vsctl('get', 'port', 'vlan100', '_uuid');
    await vlans.ensure('vlan100', vlan, signal);
    assert.equal(await vsctl('get', 'port', 'vlan100', '_uuid'), uuid);
    assert.equal(await vsctl('get', 'port', 'vlan100', 'tag'), '100');
    assert.match(await links(host), /^vlan100 .*[<,]UP[,>]/m);

    await vsctl('set', 'port', 'vlan100', 'tag=7');
    await vlans.ensure('vlan100', vlan, signal);
    assert.equal(await vsctl('get', 'port', 'vlan100', 'tag'), '100');

    await vsctl('add-port', 'br-int', 'mine', '--', 'set', 'interface', 'mine', 'type=internal');
    for (const name of ['vlan100', 'vlan100', 'mine', 'never']) await vlans.remove(name, signal);
    assert.equal(await vsctl('list-ports', 'br-int'), 'eth1\nmine');
    assert.doesNotMatch(await links(host), /vlan100/);
  },
);

test(
  'Open vSwitch without its bridge, or without its daemons, is named with what to do',
  { skip: skip_ovs },
  async (t) => {
    const host = await aHost(t);
    const ensure = (bridge: string) =>
    new OvsVlans({ host: linux(host), flags: Flags.of({ linuxnet_ovs_integration_bridge: bridge }) }).ensure('vlan100', vlan, signal); // prettier-ignore
    const refused = (bridge: string, why: RegExp) =>
      assert.rejects(ensure(bridge), (err) => err instanceof BackendUnavailable && why.test(err.message));

    await refused('br-int', /Open vSwitch does not answer.*is openvswitch-switch installed, and does it run/s);
    await startOpenVswitch(t, { host });
    await refused('br-ex', /no bridge br-ex here.*ovs-vsctl add-br br-ex.*--linuxnet_ovs_integration_bridge/);
    await ensure('br-int');
  },
);
