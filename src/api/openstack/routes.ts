import { availabilityZoneRoutes } from './availability_zones.ts';
import { extensionRoutes } from './extensions.ts';
import { flavorRoutes } from './flavors.ts';
import { fixedIpRoutes } from './fixed_ips.ts';
import { floatingIpRoutes } from './floating_ips.ts';
import { imageMetadataRoutes } from './image_metadata.ts';
import { imageRoutes } from './images.ts';
import { keypairRoutes } from './keypairs.ts';
import { limitRoutes } from './limits.ts';
import { computeQuotaRoutes } from './quota_sets.ts';
import type { Route } from './route.ts';
import { securityGroupRoutes } from './security_groups.ts';
import { serverActionRoutes } from './server_actions.ts';
import { serverMetadataRoutes } from './server_metadata.ts';
import { serverRoutes } from './servers.ts';
import { volumeAttachmentRoutes } from './volume_attachments.ts';
import { volumeTypeRoutes } from './volume_types.ts';
import { volumeRoutes } from './volumes.ts';

/** All that the OpenStack API offers. */
export const ROUTES: readonly Route[] = [
  ...serverRoutes,
  ...serverActionRoutes,
  ...serverMetadataRoutes,
  ...flavorRoutes,
  ...imageRoutes,
  ...imageMetadataRoutes,
  ...limitRoutes,
  ...computeQuotaRoutes,
  ...extensionRoutes,
  ...availabilityZoneRoutes,
  ...keypairRoutes,
  ...securityGroupRoutes,
  ...fixedIpRoutes,
  ...floatingIpRoutes,
  ...volumeRoutes,
  ...volumeAttachmentRoutes,
  ...volumeTypeRoutes,
];
