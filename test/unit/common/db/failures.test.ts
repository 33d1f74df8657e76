import assert from 'node:assert/strict';
import { test } from 'node:test';
import { databaseError, isStalePlan } from '../../../../src/common/db/failures.ts';
import { DatabaseUnavailable } from '../../../../src/common/errors.ts';

/** As PostgreSQL 15 says it where lc_messages is de_DE. */
const german = Object.assign(new Error('gecachter Plan darf den Ergebnistyp nicht ändern'), {
  code: '0A000',
  routine: 'RevalidateCachedQuery',
});

test('a prepared statement that its table outgrew is known whatever language the server speaks', () => {
  assert.ok(isStalePlan(german));
  assert.ok(databaseError(german) instanceof DatabaseUnavailable);

  const other = Object.assign(new Error('cursors sind nicht möglich'), { code: '0A000', routine: 'transformDeclare' });
  assert.equal(isStalePlan(other), false);
  assert.equal(databaseError(other), other);
});
