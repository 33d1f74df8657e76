import { nowText } from '../clock.ts';
import type { Tx } from './connect.ts';

/** Where a floating ip's association ends because its other end does; in the transaction that ends that. */

/** Nothing leads to these fixed ips any more; addresses that came by --auto_assign_floating_ip are free again. */
export async function endAssociations(tx: Tx, fixed_ip_ids: readonly number[]): Promise<void> {
  if (fixed_ip_ids.length === 0) return;
  const updated_at = nowText();
  const led = () => tx.updateTable('floating_ips').where('fixed_ip_id', 'in', [...fixed_ip_ids]);
  await led()
    .set({ project_id: null, fixed_ip_id: null, auto_assigned: 0, updated_at })
    .where('auto_assigned', '=', 1)
    .execute();
  await led().set({ fixed_ip_id: null, updated_at }).execute();
}

/** The same for what an instance has now. */
export async function endAssociationsOfInstance(tx: Tx, instance_id: number): Promise<void> {
  const rows = await tx.selectFrom('fixed_ips').select('id').where('instance_id', '=', instance_id).execute();
  const ids = rows.map(({ id }) => id);
  await endAssociations(tx, ids);
}

/** A project that goes has no instances, so nothing leads anywhere. */
export async function freeFloatingIps(tx: Tx, project_id: string): Promise<void> {
  await tx
    .updateTable('floating_ips')
    .set({ project_id: null, fixed_ip_id: null, auto_assigned: 0, updated_at: nowText() })
    .where('project_id', '=', project_id)
    .execute();
}
