import type { RequestContext } from '../common/context.ts';
import type { Tx } from '../common/db/connect.ts';
import { recordEvent } from '../common/db/events.ts';
import { ec2InstanceId } from '../common/db/instance_names.ts';
import { castJob } from '../common/db/jobs.ts';
import type { EndedAttachment } from '../common/db/volume_attachments.ts';
import type { RpcBus } from '../common/rpc/bus.ts';
import { call, cast, castClient, rpcClient, rpcContract } from '../common/rpc/contract.ts';
import type { VolumeConnection } from '../common/volume_connection.ts';

/** Every method nova-volume answers. Source: Nova 2011.3 nova/volume/manager.py; the connection pair is of later releases. */
export interface VolumeRpc {
  /** Makes it, empty or from its snapshot, and exports it; from any point of an earlier attempt. */
  createVolume(ctx: RequestContext, args: { volume_id: number; snapshot_id?: number | null }): Promise<void>;
  /** Takes export and bytes away; wins over whatever runs on the volume. */
  deleteVolume(ctx: RequestContext, args: { volume_id: number }): Promise<void>;
  /** Of a volume that is attached: crash-consistent, its guest stands still meanwhile where the store cannot clone at once. */
  createSnapshot(ctx: RequestContext, args: { volume_id: number; snapshot_id: number }): Promise<void>;
  /** Wins over its creation. */
  deleteSnapshot(ctx: RequestContext, args: { snapshot_id: number }): Promise<void>;
  /** Fails where the volume is not exported. @throws VolumeNotFound, BackendUnavailable */
  checkForExport(ctx: RequestContext, args: { volume_id: number }): Promise<void>;
  /**
   * Opens the export to this live attachment and to nobody else: sessions of earlier ones are closed, their secrets are
   * void. Asking again gives the same. @throws VolumeNotFound, Conflict when the attachment is not the volume's newest live one
   */
  initializeConnection(
    ctx: RequestContext,
    args: { volume_id: number; attachment_id: number },
  ): Promise<VolumeConnection>;
  /** Brings who may reach the volume to what the database says: nobody, when it has no live attachment. */
  refreshConnections(ctx: RequestContext, args: { volume_id: number }): Promise<void>;
}

export const volumeResource = (id: number): string => `volume:${id}`;
export const snapshotResource = (id: number): string => `snapshot:${id}`;
const ofSnapshot = (args: { snapshot_id: number }): string => snapshotResource(args.snapshot_id);
const ofVolume = (args: { volume_id: number }): string => volumeResource(args.volume_id);

export const volumeContract = rpcContract<VolumeRpc>('volume', {
  createVolume: cast('create_volume', { resource: ofVolume }),
  deleteVolume: cast('delete_volume', { resource: ofVolume, wins: true, max_attempts: 20 }),
  createSnapshot: cast('create_snapshot', { resource: ofSnapshot }),
  deleteSnapshot: cast('delete_snapshot', { resource: ofSnapshot, wins: true, max_attempts: 20 }),
  checkForExport: call('check_for_export'),
  initializeConnection: call('initialize_connection'),
  refreshConnections: cast('refresh_connections', { resource: ofVolume, max_attempts: 20 }),
});
export const volumeClient = (bus: RpcBus) => rpcClient(volumeContract, bus);

/**
 * What the end of attachments asks of storage hosts: nobody is to reach these volumes any more, or they go. In the
 * transaction that ended them.
 */
export async function tellStorage(
  tx: Tx,
  ctx: RequestContext,
  ended: readonly EndedAttachment[],
  event: string,
): Promise<void> {
  for (const { volume_id, instance_id, project_id, host, status } of ended) {
    const whose = { ...ctx, project_id };
    await recordEvent(tx, whose, volumeResource(volume_id), event, host, { from: ec2InstanceId(instance_id), status });
    if (host === null) continue;
    const storage = castClient(volumeContract).at(host);
    if (status === 'deleting') await castJob(tx, whose, storage.deleteVolume, { volume_id });
    else await castJob(tx, whose, storage.refreshConnections, { volume_id });
  }
}
