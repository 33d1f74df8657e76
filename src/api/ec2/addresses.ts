import type { FloatingIpView } from '../../common/db/floating_ips.ts';
import { FloatingIpNotFound, InvalidInput } from '../../common/errors.ts';
import { action } from './deps.ts';
import { filters, matcher, type Fields } from './filters.ts';
import { formatId } from './ids.ts';
import { allocationId, associationId, bool, instanceId, ipv4, list, optional, word } from './params.ts';
import type { XmlObject } from './xml.ts';

/** Floating addresses, which EC2 calls elastic. There is one kind; its numbers serve as allocation and association ids. */
const DOMAIN = 'standard';
const allocated = ({ id }: FloatingIpView): string => formatId('eipalloc', id);
const associated = ({ id, fixed_ip_id }: FloatingIpView): string | null =>
  fixed_ip_id === null ? null : formatId('eipassoc', id);
const instanceOf = ({ instance_id }: FloatingIpView): string | null =>
  instance_id === null ? null : formatId('i', instance_id);

const FIELDS: Fields<FloatingIpView> = {
  'public-ip': ({ address }) => address,
  'allocation-id': allocated,
  'association-id': associated,
  'instance-id': instanceOf,
  'private-ip-address': ({ fixed_address }) => fixed_address,
  domain: () => DOMAIN,
};

/** Which address is meant: EC2 has two ways to say it. @throws InvalidInput */
function which(PublicIp: string | undefined, id: number | undefined, id_name: string): string | number {
  const of = PublicIp ?? id;
  if (of === undefined || (PublicIp !== undefined && id !== undefined))
    throw new InvalidInput(`name one address: by PublicIp, or by ${id_name}`);
  return of;
}

export const allocateAddress = action('AllocateAddress', {
  about: "Takes a floating address from the pool for the project; it is the project's until it is released",
  params: { Domain: optional(word(['standard', 'vpc'])) },
  not_offered: ['Address', 'TagSpecification'],
  roles: ['netadmin'],
  async run(ctx, _params, { network }) {
    const floating = await network.allocate(ctx);
    return { publicIp: floating.address, domain: DOMAIN, allocationId: allocated(floating) };
  },
});

export const describeAddresses = action('DescribeAddresses', {
  about: "The project's floating addresses and the instances that they lead to (an administrator's: of all projects)",
  params: { PublicIp: list(ipv4()), AllocationId: list(allocationId()), Filter: filters() },
  roles: 'all',
  async run(ctx, { PublicIp, AllocationId, Filter }, { network }) {
    const matches = matcher(Filter, FIELDS);
    const known = await network.floatingIps(ctx, { all: ctx.is_admin });
    const missing =
      PublicIp.find((address) => !known.some((one) => one.address === address)) ??
      AllocationId.filter((id) => !known.some((one) => one.id === id)).map((id) => formatId('eipalloc', id))[0];
    if (missing !== undefined) throw new FloatingIpNotFound(`project ${ctx.project_id} has no floating ip ${missing}`);
    const named = PublicIp.length + AllocationId.length > 0;
    const asked = known.filter(
      (one) => (!named || PublicIp.includes(one.address) || AllocationId.includes(one.id)) && matches(one),
    );
    return { addressesSet: asked.map((one) => viewAddress(one, ctx.is_admin)) };
  },
});

/** An administrator, who sees all projects, sees whose it is. */
const viewAddress = (floating: FloatingIpView, is_admin: boolean): XmlObject => ({
  publicIp: floating.address,
  allocationId: allocated(floating),
  domain: DOMAIN,
  instanceId: instanceOf(floating),
  associationId: associated(floating) ?? undefined,
  privateIpAddress: floating.fixed_address ?? undefined,
  projectId: is_admin ? floating.project_id : undefined,
});

export const associateAddress = action('AssociateAddress', {
  about:
    'Leads a floating address to an instance, also from another that it leads to, unless AllowReassociation is false',
  params: {
    InstanceId: instanceId(),
    PublicIp: optional(ipv4()),
    AllocationId: optional(allocationId()),
    PrivateIpAddress: optional(ipv4()),
    AllowReassociation: optional(bool(), true),
  },
  roles: ['netadmin'],
  async run(ctx, { InstanceId, PublicIp, AllocationId, PrivateIpAddress, AllowReassociation }, { network }) {
    const fixed = PrivateIpAddress === undefined ? {} : { fixed_address: PrivateIpAddress };
    const of = which(PublicIp, AllocationId, 'AllocationId');
    const floating = await network.associate(ctx, of, InstanceId, { ...fixed, move: AllowReassociation });
    return { associateResponse: ['Address associated.'], return: true, associationId: associated(floating) };
  },
});

export const disassociateAddress = action('DisassociateAddress', {
  about: 'A floating address leads nowhere after this; it stays with the project',
  params: { PublicIp: optional(ipv4()), AssociationId: optional(associationId()) },
  roles: ['netadmin'],
  async run(ctx, { PublicIp, AssociationId }, { network }) {
    await network.disassociate(ctx, which(PublicIp, AssociationId, 'AssociationId'));
    return { disassociateResponse: ['Address disassociated.'], return: true };
  },
});

export const releaseAddress = action('ReleaseAddress', {
  about: 'Gives a floating address that leads nowhere back to the pool',
  params: { PublicIp: optional(ipv4()), AllocationId: optional(allocationId()) },
  roles: ['netadmin'],
  async run(ctx, { PublicIp, AllocationId }, { network }) {
    await network.release(ctx, which(PublicIp, AllocationId, 'AllocationId'));
    return { releaseResponse: ['Address released.'], return: true };
  },
});
