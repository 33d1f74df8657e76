import { z } from 'zod';
import { InvalidInput } from '../../common/errors.ts';
import type { LaunchSpec } from '../../compute/api.ts';
import { asksFor, Whole } from '../json_body.ts';
import { BLOCK_DEVICES, blockDevices } from './block_devices.ts';
import { idNumber } from './pagination.ts';
import { lastPart } from './server_selection.ts';

export const ServerName = z.string().trim().min(1, 'is blank').max(255, 'has more than 255 characters');

/** Text to text; what is longer than a column or more than the quota allows is refused where it is written. */
export const Metadata = z.record(z.string(), z.string());

/** An id, or a URL that ends in it. */
const Reference = z.union([z.string(), z.number()], 'is an id or the URL that ends in it').transform((ref, issue) => {
  const id = idNumber(lastPart(String(ref)) ?? '');
  if (id === undefined)
    issue.addIssue({ code: 'custom', message: `${String(ref).slice(0, 80)} is no id, and no URL that ends in one` });
  return id ?? 0;
});
/** Empty where the server boots from a volume. */
const ImageReference = z.preprocess((ref) => (ref === '' ? null : ref), Reference.nullish());

const Base64 = z.string().transform((text, issue) => {
  const base64 = text.replace(/\s+/g, '');
  if (base64.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(base64))
    issue.addIssue({ code: 'custom', message: 'is not base64' });
  return base64;
});

/**
 * What Nova could do with a new server and this one cannot: refused when asked for, rather than left out in silence. Hints
 * for the scheduler stand beside the server.
 */
const NOT_OFFERED = [
  'personality',
  'networks',
  'accessIPv4',
  'accessIPv6',
  'config_drive',
  'blob',
  'return_reservation_id',
  'host',
  'hypervisor_hostname',
  'os:scheduler_hints',
  'OS-SCH-HNT:scheduler_hints',
];

const COMMON = {
  name: ServerName,
  metadata: Metadata.nullish(),
  adminPass: z.string().min(1, 'is empty').max(255, 'has more than 255 characters').nullish(),
  key_name: z.string().nullish(),
  user_data: Base64.nullish(),
  availability_zone: z.string().max(255).nullish(),
  security_groups: z.array(z.object({ name: z.string() })).nullish(),
  ...BLOCK_DEVICES,
  min_count: Whole.pipe(z.number().min(1, 'is less than 1')).nullish(),
  max_count: Whole.pipe(z.number().min(1, 'is less than 1')).nullish(),
};

function refuseNotOffered(body: Record<string, unknown>, issue: z.RefinementCtx): void {
  for (const key of NOT_OFFERED)
    if (asksFor(body[key])) issue.addIssue({ code: 'custom', path: [key], message: 'is not offered; leave it out' });
}

/** Source: Nova 2011.3 nova/api/openstack/create_instance_helper.py */
export const NewServer = z
  .looseObject({
    server: z.looseObject({ ...COMMON, imageRef: ImageReference, flavorRef: Reference }).superRefine(refuseNotOffered),
  })
  .superRefine(refuseNotOffered);
export type NewServer = z.infer<typeof NewServer>['server'];

/** The same in the words of 1.0. */
export const NewServer10 = z
  .looseObject({
    server: z
      .looseObject({ ...COMMON, imageId: ImageReference, flavorId: Reference })
      .superRefine(refuseNotOffered)
      .transform(({ imageId, flavorId, ...server }) => ({ ...server, imageRef: imageId, flavorRef: flavorId })),
  })
  .superRefine(refuseNotOffered);

/** @throws InvalidInput */
export function launchSpec(server: NewServer): LaunchSpec {
  const min_count = server.min_count ?? 1;
  const max_count = server.max_count ?? min_count;
  if (max_count < min_count)
    throw new InvalidInput(`server.max_count ${max_count} is less than min_count ${min_count}`);
  return {
    image_id: server.imageRef ?? null,
    instance_type: { flavorid: server.flavorRef },
    min_count,
    max_count,
    key_name: server.key_name || null,
    user_data: server.user_data || null,
    security_groups: [...new Set((server.security_groups ?? []).map(({ name }) => name))],
    availability_zone: server.availability_zone || null,
    display_name: server.name,
    display_description: server.name,
    metadata: server.metadata ?? {},
    block_device_mapping: blockDevices(server),
  };
}
