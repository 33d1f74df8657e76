import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseStates } from '../../../../../src/compute/drivers/libvirt/domains.ts';
import { PowerState } from '../../../../../src/compute/logic/power_state.ts';

test("each domain's state is read from domstats, and one that is only being started is in none", () => {
  const stats = `Domain: 'instance-00000001'
  state.state=1
  state.reason=1

Domain: 'an 'odd' name'
  state.state=5
  state.reason=2
Domain: 'suspended'
  state.state=3
  state.reason=1
Domain: 'starting'
  state.state=3
  state.reason=11
Domain: 'of the future'
  state.state=77
  state.reason=0
`;

  assert.deepEqual(Object.fromEntries(parseStates(stats)), {
    'instance-00000001': PowerState.RUNNING,
    "an 'odd' name": PowerState.SHUTOFF,
    suspended: PowerState.PAUSED,
    starting: PowerState.NOSTATE,
    'of the future': PowerState.NOSTATE,
  });
});
