import { reportCapacity, reportHypervisor } from '../../common/db/compute_nodes.ts';
import type { NovaDb } from '../../common/db/connect.ts';
import { BackendAway } from '../../common/errors.ts';
import type { ComputeDriver } from '../drivers/driver.ts';

/** Writes what the host has for guests, MB of `reserved_mb` aside. */
export async function updateResources(
  db: NovaDb,
  driver: ComputeDriver,
  host: string,
  reserved_mb: number,
): Promise<void> {
  const has = await driver.hostResources();
  await reportCapacity(db, host, { ...has, memory_mb: Math.max(0, has.memory_mb - reserved_mb) });
}

/** Asks the hypervisor; while it does not answer, the scheduler places nothing here. */
export async function askHypervisor(db: NovaDb, host: string, ask: () => Promise<void>): Promise<void> {
  try {
    await ask();
  } catch (err) {
    if (err instanceof BackendAway) await reportHypervisor(db, host, err.message);
    throw err;
  }
  await reportHypervisor(db, host, null);
}
