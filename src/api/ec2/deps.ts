import { kernelFlags } from '../../common/image/store.ts';
import type { NovaDb } from '../../common/db/connect.ts';
import { endpointFlags, serviceFlags } from '../../common/core_flags.ts';
import { defineFlags, string, type Flags, type FlagValues } from '../../common/flags.ts';
import { computeApiFlags, type ComputeApi } from '../../compute/api.ts';
import type { ProviderFirewallApi } from '../../compute/provider_firewall_api.ts';
import type { SecurityGroupApi } from '../../compute/security_group_api.ts';
import type { NetworkApi } from '../../network/api.ts';
import type { ImageApi } from '../../objectstore/api.ts';
import type { VolumeApi } from '../../volume/api.ts';
import { tokenFlags } from '../metadata/app.ts';
import { actionsOver } from './action.ts';

export const ec2Flags = defineFlags({
  vpn_key_suffix: string('-vpn', 'End of the names of key pairs that belong to VPN instances; only admins see those'),
});

/** What the actions work with. */
export interface Ec2Deps {
  db: NovaDb;
  compute: ComputeApi;
  images: ImageApi;
  groups: SecurityGroupApi;
  provider: ProviderFirewallApi;
  network: NetworkApi;
  volumes: VolumeApi;
  settings: FlagValues<
    typeof ec2Flags &
      typeof endpointFlags &
      typeof serviceFlags &
      typeof computeApiFlags &
      typeof tokenFlags &
      typeof kernelFlags
  >;
}

export const ec2Deps = ({ flags, ...apis }: Omit<Ec2Deps, 'settings'> & { flags: Flags }): Ec2Deps => ({
  ...apis,
  settings: flags.read({
    ...ec2Flags,
    ...endpointFlags,
    ...serviceFlags,
    ...computeApiFlags,
    ...tokenFlags,
    ...kernelFlags,
  }),
});

/** Makes one entry of the table in actions.ts. */
export const action = actionsOver<Ec2Deps>();
