import assert from 'node:assert/strict';
import test from 'node:test';
import {
  parseAccounts,
  parseConnections,
  parsePortals,
  parseTargets,
} from '../../../../../src/volume/drivers/tgt/targets.ts';

const SHOWN = `Target 70001: iqn.2010-10.org.openstack:volume-00000001
    System information:
        Driver: iscsi
        State: ready
    I_T nexus information:
        I_T nexus: 3
            Initiator: iqn.2008-11.org.linux-kvm:guest: one alias: none
            Connection: 0
                IP Address: 10.77.0.2
    LUN information:
        LUN: 0
            Type: controller
            Backing store path: None
            Readonly: No
        LUN: 1
            Type: disk
            Size: 1074 MB, Block size: 512
            Readonly: Yes
            Backing store path: /var/lib/nova/volumes/volume-00000001
            Backing store flags: 
    Account information:
        vol-00000001-e2
    ACL information:
        ALL
Target 90002: iqn.2010-10.org.openstack:volume-00000002
    System information:
        Driver: iscsi
        State: offline
    I_T nexus information:
    LUN information:
        LUN: 0
            Type: controller
    Account information:
    ACL information:
`;

test('what tgtd tells of its targets is read whole, whatever an initiator calls itself', () => {
  assert.deepEqual(parseTargets(SHOWN), [
    {
      tid: 70001,
      iqn: 'iqn.2010-10.org.openstack:volume-00000001',
      state: 'ready',
      luns: [{ lun: 1, path: '/var/lib/nova/volumes/volume-00000001', readonly: true }],
      accounts: ['vol-00000001-e2'],
      acl: ['ALL'],
      sessions: [3],
    },
    {
      tid: 90002,
      iqn: 'iqn.2010-10.org.openstack:volume-00000002',
      state: 'offline',
      luns: [],
      accounts: [],
      acl: [],
      sessions: [],
    },
  ]);
  assert.deepEqual(parseTargets(''), []);
});

test('connections, accounts and portals are read from tgtd’s lists', () => {
  const connections =
    'Session: 7\n    Connection: 0\n        Initiator: iqn.x:a\n        IP Address: 10.0.0.1\n' +
    'Session: 9\n    Connection: 1\n        Initiator: iqn.x:b\n        IP Address: 10.0.0.2\n';

  assert.deepEqual(parseConnections(connections), [
    { sid: 7, cid: 0 },
    { sid: 9, cid: 1 },
  ]);
  assert.deepEqual(parseAccounts('Account list:\n    vol-1-e1\n    vol-2-e3\n'), ['vol-1-e1', 'vol-2-e3']);
  assert.deepEqual(parseAccounts(''), []);
  assert.deepEqual(parsePortals('Portal: 10.0.0.1:3260,1\nPortal: [::1]:3261,1\n'), ['10.0.0.1:3260', '[::1]:3261']);
});
