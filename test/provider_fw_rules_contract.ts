import assert from 'node:assert/strict';
import { blockRange, providerRules, unblockRange } from '../src/common/db/provider_fw_rules.ts';
import { atOnce, contractOf, succeeded, type Database } from './databases.ts';

export function providerFwRulesContract(database: Database): void {
  const it = contractOf(database);

  it('a range is blocked once however many ask at once, and again after it was let go', async (db, all) => {
    const cidr = '192.0.2.0/24';
    const rules = async () => (await providerRules(db)).map(({ protocol, cidr }) => `${protocol} ${cidr}`).sort();
    const three = ['icmp 192.0.2.0/24', 'tcp 192.0.2.0/24', 'udp 192.0.2.0/24'];

    const added = succeeded(await atOnce(all, 8, (on) => blockRange(on, cidr)));
    assert.deepEqual([added.reduce((sum, count) => sum + count, 0), await rules()], [3, three]);

    await blockRange(db, '2001:db8::/32');
    const gone = succeeded(await atOnce(all, 8, (on) => unblockRange(on, cidr)));
    assert.equal(gone.reduce((sum, count) => sum + count, 0), 3); // prettier-ignore
    assert.equal((await rules()).length, 3, 'the other range stays');

    assert.equal(await blockRange(db, cidr), 3);
    assert.equal((await rules()).length, 6);
  });
}
