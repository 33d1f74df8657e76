import type { RequestContext } from '../common/context.ts';
import { writing, type NovaDb } from '../common/db/connect.ts';
import {
  deleteVolumeType,
  forgetExtraSpecs,
  insertVolumeType,
  listVolumeTypes,
  writeExtraSpecs,
  type VolumeType,
} from '../common/db/volume_types.ts';
import { PolicyNotAuthorized, VolumeTypeNotFound } from '../common/errors.ts';

/** Names for kinds of volumes with keys and values; users read them, admins make them. Source: Nova 2011.3 nova/volume/volume_types.py. */
export class VolumeTypeApi {
  readonly #db: NovaDb;
  constructor(db: NovaDb) {
    this.#db = db;
  }

  list(_ctx: RequestContext): Promise<VolumeType[]> {
    return listVolumeTypes(this.#db);
  }

  /** By id or name. @throws VolumeTypeNotFound */
  async get(ctx: RequestContext, wanted: number | string): Promise<VolumeType> {
    const found = (await this.list(ctx)).find(({ id, name }) => id === wanted || name === wanted);
    return found ?? Promise.reject(new VolumeTypeNotFound(`there is no volume type ${wanted}`));
  }

  /** @throws InvalidInput, VolumeTypeExists, PolicyNotAuthorized */
  async create(
    ctx: RequestContext,
    name: string,
    extra_specs: Readonly<Record<string, string>> = {},
  ): Promise<VolumeType> {
    requireAdmin(ctx);
    const id = await writing(this.#db, async (tx) => {
      const made = await insertVolumeType(tx, name);
      await writeExtraSpecs(tx, made, extra_specs);
      return made;
    });
    return this.get(ctx, id);
  }

  /** @throws VolumeTypeNotFound, PolicyNotAuthorized */
  async delete(ctx: RequestContext, id: number): Promise<void> {
    requireAdmin(ctx);
    await writing(this.#db, (tx) => deleteVolumeType(tx, id));
  }

  /** Adds pairs, or gives keys new values. @throws VolumeTypeNotFound, PolicyNotAuthorized */
  async writeExtraSpecs(ctx: RequestContext, id: number, pairs: Readonly<Record<string, string>>): Promise<void> {
    requireAdmin(ctx);
    await writing(this.#db, (tx) => writeExtraSpecs(tx, id, pairs));
  }

  /** @returns whether there was one. @throws PolicyNotAuthorized */
  async deleteExtraSpec(ctx: RequestContext, id: number, key: string): Promise<boolean> {
    requireAdmin(ctx);
    return writing(this.#db, async (tx) => (await forgetExtraSpecs(tx, id, [key])) > 0);
  }
}

function requireAdmin(ctx: RequestContext): void {
  if (!ctx.is_admin) throw new PolicyNotAuthorized('volume types are made and changed by administrators');
}
