import assert from 'node:assert/strict';
import { test } from 'node:test';
import { refillText, type WantedTable } from '../../../../src/common/linux/iptables_text.ts';

const aTable = (chains: WantedTable['chains'], over: Partial<WantedTable> = {}): WantedTable => ({
  table: 'filter',
  chains: { local: ['-d 10.0.0.2/32 -j $inst-2'], ...chains },
  shared: { 'nova-filter-top': ['-j $local'] },
  builtin: { FORWARD: [{ rule: '-j nova-filter-top', place: 'first' }] },
  ...over,
});
const before = aTable({ 'inst-2': ['-j $sg-1'], 'sg-1': ['-s 10.0.0.9/32 -j ACCEPT'] });
const refill = (wanted: WantedTable) => refillText(before, 'nova-n', wanted);

test('a chain whose rules change is emptied and filled, and no other is written', () => {
  const rules = ['-s 10.0.0.9/32 -j ACCEPT', '-j $local', '-j $local'];
  assert.equal(
    refill(aTable({ 'inst-2': ['-j $sg-1'], 'sg-1': rules })),
    '*filter\n:nova-n-sg-1 - [0:0]\n-A nova-n-sg-1 -s 10.0.0.9/32 -j ACCEPT\n-A nova-n-sg-1 -j nova-n-local\nCOMMIT\n',
  );
  assert.equal(
    refill(aTable({ 'inst-2': ['-j $sg-1'], 'sg-1': [] })),
    '*filter\n:nova-n-sg-1 - [0:0]\nCOMMIT\n',
    'the last rule was taken out',
  );
});

test('nothing is written when nothing changes', () => {
  assert.equal(refill(structuredClone(before)), null);
});

test('the host is looked at when chains come or go, or jumps to them change', () => {
  const { chains } = before;
  const others = {
    'a chain comes': aTable({ ...chains, 'inst-3': [] }),
    'a chain goes': aTable({ 'inst-2': ['-j $sg-1'] }),
    'another takes its place': aTable({ 'inst-2': ['-j $sg-1'], 'sg-7': ['-s 10.0.0.9/32 -j ACCEPT'] }),
    'a shared chain changes': aTable(chains, { shared: { 'nova-filter-top': [] } }),
    'a jump comes first': aTable(chains, { builtin: { FORWARD: [{ rule: '-j nova-filter-top', place: 'any' }] } }),
  };
  for (const [what, wanted] of Object.entries(others)) assert.equal(refill(wanted), undefined, what);
});
