import assert from 'node:assert/strict';
import { nowText } from '../src/common/clock.ts';
import { computeHosts } from '../src/common/db/compute_nodes.ts';
import {
  allServices,
  heartbeat,
  hostsUp,
  liveServices,
  registerService,
  setServiceDisabled,
  signOff,
  type ServiceRegistration,
} from '../src/common/db/services.ts';
import { ServiceNotFound } from '../src/common/errors.ts';
import { aComputeHost } from './builders.ts';
import { later } from './clock.ts';
import { atOnce, contractOf, succeeded, type Database } from './databases.ts';

const aService = (over: Partial<ServiceRegistration> = {}): ServiceRegistration => ({
  host: 'node1',
  binary: 'nova-compute',
  topic: 'compute',
  availability_zone: 'nova',
  incarnation: 'one',
  agreed_flags: {},
  enabled: true,
  ...over,
});
const EVER = '2011-04-15T00:00:00.000Z';

/** What holds of the services table, on every database. */
export function servicesContract(database: Database): void {
  const it = contractOf(database);

  it('processes of one host that register a service at once share one row', async (db, all) => {
    succeeded(await atOnce(all, 16, (on, i) => registerService(on, aService({ incarnation: `${i}` }))));
    await registerService(db, aService({ binary: 'nova-network', topic: 'network' }));
    await registerService(db, aService({ host: 'node2' }));

    assert.deepEqual(
      (await allServices(db)).map(({ host, binary }) => `${host} ${binary}`),
      ['node1 nova-compute', 'node1 nova-network', 'node2 nova-compute'],
    );
  });

  it('a service that starts again keeps what the operator set, and says what it is now', async (db) => {
    await registerService(db, aService({ agreed_flags: { network_manager: 'flat' } }));
    await setServiceDisabled(db, 'node1', 'nova-compute', true);

    await registerService(
      db,
      aService({ incarnation: 'two', availability_zone: 'elsewhere', agreed_flags: { network_manager: 'vlan' } }),
    );

    const [{ disabled, availability_zone, incarnation, agreed_flags } = assert.fail('no row')] = await allServices(db);
    assert.deepEqual(
      { disabled, availability_zone, incarnation, agreed_flags },
      { disabled: 1, availability_zone: 'elsewhere', incarnation: 'two', agreed_flags: '{"network_manager":"vlan"}' },
    );
  });

  it('a new service is disabled where new ones are to be', async (db) => {
    await registerService(db, aService({ enabled: false }));

    assert.equal((await allServices(db))[0]?.disabled, 1);
    await assert.rejects(setServiceDisabled(db, 'node9', 'nova-compute', true), ServiceNotFound);
  });

  it('reports are counted, none is lost, and a row that somebody deleted is made again', async (db, all) => {
    await registerService(db, aService());

    succeeded(await atOnce(all, 16, (on) => heartbeat(on, aService(), { service_down_time: 60, report_interval: 10 })));
    assert.equal((await allServices(db))[0]?.report_count, 16);
    await db.updateTable('services').set({ deleted: 1 }).execute();
    succeeded(await atOnce(all, 4, (on) => heartbeat(on, aService(), { service_down_time: 60, report_interval: 10 })));

    assert.equal((await allServices(db)).length, 1);
  });

  it('a service is live while it reports and until it signs off; a former life cannot sign off for it', async (db, _all, t) => {
    await registerService(db, aService({ incarnation: 'before' }));
    await registerService(db, aService({ incarnation: 'now' }));
    const live = async (since: string, topic?: string) =>
      (await liveServices(db, since, topic)).map((one) => one.incarnation);

    await signOff(db, 'node1', 'nova-compute', 'before');
    assert.deepEqual(await live(EVER), ['now']);
    assert.deepEqual(await live(EVER, 'network'), []);
    later(t, 60);
    const then = nowText();
    assert.deepEqual(await live(then), []);
    await heartbeat(db, aService({ incarnation: 'now' }), { service_down_time: 60, report_interval: 10 });
    assert.deepEqual(await live(then, 'compute'), ['now']);
    await signOff(db, 'node1', 'nova-compute', 'now');

    assert.deepEqual(await live(EVER), []);
  });

  it('after an outage nobody is dead before some service reported for two intervals without a break', async (db, _all, t) => {
    const liveness = { service_down_time: 60, report_interval: 10 };
    const scheduler = aService({ host: 'ctl', binary: 'nova-scheduler', topic: 'scheduler' });
    const up = async () => [...(await hostsUp(db, 'compute', liveness))];
    await registerService(db, aService());
    await registerService(db, aService({ host: 'node2' }));
    await registerService(db, scheduler);
    later(t, 600);
    assert.deepEqual(await up(), ['node1', 'node2']);
    for (let report = 0; report < 2; report++) {
      await heartbeat(db, scheduler, liveness);
      assert.deepEqual(await up(), ['node1', 'node2']);
      later(t, 10);
    }
    await heartbeat(db, aService({ host: 'node2' }), liveness);
    await heartbeat(db, scheduler, liveness);

    assert.deepEqual(await up(), ['node2']);
    await signOff(db, 'node2', 'nova-compute', 'one');
    assert.deepEqual(await up(), ['node2'], 'stopped in order just now');
    await heartbeat(db, aService(), liveness);
    assert.deepEqual(await up(), ['node1', 'node2']);
  });

  it('a host that died is judged dead also where two reports are all that --service_down_time spans', async (db, _all, t) => {
    const liveness = { service_down_time: 20, report_interval: 10 };
    const scheduler = aService({ host: 'ctl', binary: 'nova-scheduler', topic: 'scheduler' });
    for (const one of [aService(), aService({ host: 'dead' }), scheduler]) await registerService(db, one);

    for (let report = 0; report < 4; report++) {
      later(t, 10.2); // the interval counts from the end of the report before
      for (const one of [aService(), scheduler]) await heartbeat(db, one, liveness);
    }

    assert.deepEqual([...(await hostsUp(db, 'compute', liveness))], ['node1']);
  });

  it('a compute host is listed with what it has, or without that before it told', async (db) => {
    await aComputeHost(db, 'node2', { vcpus_used: 3 });
    await registerService(db, aService({ host: 'node1', availability_zone: 'attic' }));
    await registerService(db, aService({ binary: 'nova-network', topic: 'network' }));

    assert.deepEqual(
      (await computeHosts(db)).map((row) => [row.host, row.availability_zone, row.vcpus, row.vcpus_used]),
      [
        ['node1', 'attic', null, null],
        ['node2', 'nova', 8, 3],
      ],
    );
  });
}
