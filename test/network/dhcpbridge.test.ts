import assert from 'node:assert/strict';
import { readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { execute } from '../../src/common/execute.ts';
import { projectRoot, tempDir } from '../rigs/tmp.ts';

const hook = join(projectRoot(), 'bin', 'nova-dhcpbridge');

test('nova-dhcpbridge leaves events for nova-network and prints the leases that are out', async (t) => {
  const NETWORKS_PATH = tempDir(t);
  const env = { NETWORKS_PATH, DNSMASQ_INTERFACE: 'br100', NETWORK_ID: '1' };
  writeFileSync(join(NETWORKS_PATH, 'nova-br100.leases'), '1303000000 02:16:3e:00:00:02 10.0.0.2 vm1 *\n');

  await execute([hook, 'add', '02:16:3e:00:00:02', '10.0.0.2', 'vm1'], { env });
  await execute([hook, 'add', '02:16:3e:00:00:03', '10.0.0.3', 'vm2'], { env });
  await execute([hook, 'del', '02:16:3e:00:00:02', '10.0.0.2'], { env }); // dnsmasq leaves an unknown name out

  const event = (mac: string) => readFileSync(join(NETWORKS_PATH, `nova-br100.${mac}.event`), 'utf8');
  assert.equal(event('02:16:3e:00:00:02'), 'del 02:16:3e:00:00:02 10.0.0.2 \n');
  assert.equal(event('02:16:3e:00:00:03'), 'add 02:16:3e:00:00:03 10.0.0.3 vm2\n');
  assert.equal(readdirSync(NETWORKS_PATH).length, 3);
  assert.equal(
    (await execute([hook, 'init'], { env })).stdout,
    readFileSync(join(NETWORKS_PATH, 'nova-br100.leases'), 'utf8'),
  );
});

test('nova-dhcpbridge is harmless when nothing of nova is there', async (t) => {
  const env = { NETWORKS_PATH: join(tempDir(t), 'away'), DNSMASQ_INTERFACE: 'br100' };

  assert.equal((await execute([hook, 'init'], { env })).stdout, '');
  await execute([hook, 'add', '02:16:3e:00:00:02', '10.0.0.2', 'vm1'], { env });
  await execute([hook, 'tftp', '12', '10.0.0.2', '/file'], { env });
});

test('nova-dhcpbridge run by hand finds its folder by the flagfile, through a link too', async (t) => {
  const dir = tempDir(t);
  const env = { FLAGFILE: join(dir, 'nova.flags'), DNSMASQ_INTERFACE: 'br7', NETWORKS_PATH: '' };
  writeFileSync(env.FLAGFILE, `--state_path=${dir}\n--networks_path=$state_path\n--libvirt_type=kvm\n`);
  writeFileSync(join(dir, 'nova-br7.leases'), '1303000000 02:16:3e:00:00:02 10.0.0.2 vm1 *\n');
  symlinkSync(hook, join(dir, 'nova-dhcpbridge'));

  await execute([hook, 'old', '02:16:3e:00:00:02', '10.0.0.2', 'vm1'], { env });
  const { stdout } = await execute([join(dir, 'nova-dhcpbridge'), 'init'], { env });

  const event = readFileSync(join(dir, 'nova-br7.02:16:3e:00:00:02.event'), 'utf8');
  assert.equal(event, 'old 02:16:3e:00:00:02 10.0.0.2 vm1\n');
  assert.equal(stdout, '1303000000 02:16:3e:00:00:02 10.0.0.2 vm1 *\n');

  const wrong = await execute([hook, 'add', '../../x', '10.0.0.2'], { env });
  assert.match(wrong.stderr, /is no lease/);
  await execute([hook, 'init'], { env: { ...env, FLAGFILE: join(dir, 'none'), DNSMASQ_INTERFACE: 'br-none' } });
});

test('nova-dhcpbridge needs neither database nor broker, so one that is away keeps no lease', async (t) => {
  const dir = tempDir(t);
  const flagfile = join(dir, 'nova.flags');
  const away = '--sql_connection=postgresql://nova@127.0.0.1:1/nova\n--rabbit_host=127.0.0.1\n--rabbit_port=1\n';
  writeFileSync(flagfile, `--networks_path=${dir}\n${away}`);
  const card = ['02:16:3e:00:00:02', '10.0.0.2'];

  for (const env of [
    { FLAGFILE: flagfile, NETWORKS_PATH: '', DNSMASQ_INTERFACE: 'br0' }, // as Nova's was called
    { FLAGFILE: flagfile, NETWORKS_PATH: dir, DNSMASQ_INTERFACE: 'br1' }, // as ours is
  ])
    for (const event of ['add', 'old', 'del']) {
      const { stdout, stderr, exit_code } = await execute([hook, event, ...card], { env });
      assert.deepEqual([stdout, stderr, exit_code], ['', '', 0]);
      const file = join(dir, `nova-${env.DNSMASQ_INTERFACE}.${card[0]}.event`);
      assert.equal(readFileSync(file, 'utf8').trimEnd(), [event, ...card].join(' '));
    }
});
