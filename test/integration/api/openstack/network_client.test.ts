import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createFloatingIps } from '../../../../src/common/db/floating_pool.ts';
import { poolAddresses } from '../../../../src/network/logic/floating.ts';
import { aFixedIp, anInstance, aNetwork } from '../../../builders.ts';
import { needs } from '../../../rigs/needs.ts';
import { anApi } from './an_api.ts';
import { clientsOf } from './clients.ts';

test(
  'the openstack and nova clients of today drive floating addresses and security groups',
  { skip: needs('openstack', 'nova') },
  async (t) => {
    const api = await anApi(t);
    await createFloatingIps(api.db, () => poolAddresses('203.0.113.5', []));
    const instance_id = await anInstance(api.db, { image_id: api.image });
    await aFixedIp(api.db, { network_id: await aNetwork(api.db), instance_id, address: '10.0.0.2' });
    const { run } = clientsOf(api);
    const openstack = (words: string) => run('openstack', ...words.split(' '));

    assert.equal(await openstack('floating ip create nova -f value -c ip'), '203.0.113.5');
    await openstack('server add floating ip web 203.0.113.5');
    assert.match(await openstack('server show web -f value -c addresses'), /203\.0\.113\.5/);
    await openstack('server remove floating ip web 203.0.113.5');
    await openstack('floating ip delete 203.0.113.5');
    assert.equal(await openstack('floating ip list -f value'), '');

    const group = await openstack('security group create shop -f value -c id');
    await openstack('security group rule create --protocol tcp --dst-port 80:81 --remote-ip 192.0.2.0/24 shop');
    await openstack('security group rule create --protocol icmp --remote-group shop shop');
    assert.equal((await openstack('security group rule list shop -f value -c ID')).split('\n').length, 2);
    await openstack('server add security group web shop');
    assert.match(await run('nova', 'list-secgroup', 'web'), /\| shop +\|/);
    await assert.rejects(openstack('security group delete shop'), /HTTP 409/);
    await openstack('server remove security group web shop');
    await run('nova', 'add-secgroup', 'web', 'shop');
    await run('nova', 'remove-secgroup', 'web', 'shop');
    await openstack(`security group delete ${group}`);
    assert.equal(await openstack('security group list -f value -c Name'), 'default');
  },
);
