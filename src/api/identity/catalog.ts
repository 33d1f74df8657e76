import type { endpointFlags } from '../../common/core_flags.ts';
import { defineFlags, integer, string, type FlagValues } from '../../common/flags.ts';

export const identityFlags = defineFlags({
  identity_listen: string('0.0.0.0', 'Address that the identity API listens on'),
  identity_listen_port: integer(5000, 'Port that the identity API listens on', { min: 0, max: 65535 }),
});

/** The one region there is: EC2's name for it is the same. */
export const REGION = 'nova';

export interface CatalogEntry {
  type: string;
  name: string;
  url: string;
}
export type CatalogFlags = FlagValues<typeof endpointFlags>;

/** Where the APIs are, for a user in this project. */
export function catalogOf(flags: CatalogFlags, project_id: string): CatalogEntry[] {
  const compute = `${flags.osapi_scheme}://${flags.osapi_host}:${flags.osapi_port}`;
  return [
    { type: 'compute', name: 'nova', url: `${compute}/v2/${encodeURIComponent(project_id)}` },
    { type: 'image', name: 'glance', url: `${compute}/image` },
    { type: 'volumev3', name: 'cinder', url: `${compute}/volume/v3/${encodeURIComponent(project_id)}` },
    { type: 'ec2', name: 'ec2', url: `${flags.ec2_scheme}://${flags.ec2_host}:${flags.ec2_port}${flags.ec2_path}` },
    { type: 's3', name: 's3', url: `http://${flags.s3_host}:${flags.s3_port}` },
    { type: 'identity', name: 'keystone', url: `http://${flags.identity_host}:${flags.identity_port}/v3` },
  ];
}
