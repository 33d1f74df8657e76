import { ec2GroupId } from '../../common/db/security_groups.ts';
import { SecurityGroupNotFound } from '../../common/errors.ts';
import type { SecurityGroupView } from '../../compute/security_group_api.ts';
import { action } from './deps.ts';
import { filters, matcher, type Fields } from './filters.ts';
import { list, str } from './params.ts';
import { GROUP_PARAMS, groupKey, RULE_PARAMS, ruleSpecs } from './security_group_params.ts';
import type { XmlObject } from './xml.ts';

type Rule = SecurityGroupView['rules'][number];

const groupId = ({ id }: { id: number }): string => ec2GroupId(id);

const FIELDS: Fields<SecurityGroupView> = {
  'group-id': groupId,
  'group-name': ({ name }) => name,
  description: ({ description }) => description,
  'owner-id': ({ project_id }) => project_id,
};

export const describeSecurityGroups = action('DescribeSecurityGroups', {
  about: "The project's security groups; `default` is always among them",
  params: { GroupName: list(str()), GroupId: list(str()), Filter: filters() },
  roles: 'all',
  async run(ctx, { GroupName, GroupId, Filter }, { groups }) {
    const matches = matcher(Filter, FIELDS);
    // An administrator sees those of all projects; names are of the own project, since every project has a default.
    const known = await groups.list(ctx, { every_project: GroupName.length === 0 });
    // The number alone is how Nova showed and took it.
    const called = (group: SecurityGroupView, id: string) => id === groupId(group) || id === String(group.id);
    const missing =
      GroupName.find((name) => !known.some((group) => group.name === name)) ??
      GroupId.find((id) => !known.some((group) => called(group, id)));
    if (missing !== undefined) {
      throw new SecurityGroupNotFound(`project ${ctx.project_id} has no security group ${missing}`);
    }
    const asked = known.filter(
      (group) =>
        (GroupName.length + GroupId.length === 0 ||
          GroupName.includes(group.name) ||
          GroupId.some((id) => called(group, id))) &&
        matches(group),
    );
    return { securityGroupInfo: asked.map(viewGroup) };
  },
});

function viewGroup(group: SecurityGroupView): XmlObject {
  return {
    ownerId: group.project_id,
    groupName: group.name,
    groupDescription: group.description,
    groupId: groupId(group),
    ipPermissions: group.rules.map(viewRule),
    ipPermissionsEgress: [],
    tagSet: [],
  };
}

function viewRule(rule: Rule): XmlObject {
  const { protocol, cidr, group_id } = rule;
  const groups =
    group_id === null
      ? []
      : [{ groupName: rule.source_name, groupId: ec2GroupId(group_id), userId: rule.source_project }];
  const v6 = cidr?.includes(':') ?? false;
  const sources = {
    groups,
    ipRanges: cidr === null || v6 ? [] : [{ cidrIp: cidr }],
    ipv6Ranges: cidr === null || !v6 ? [] : [{ cidrIpv6: cidr }],
  };
  if (protocol === '-1') return { ipProtocol: '-1', ...sources };
  return { ipProtocol: protocol, fromPort: rule.from_port, toPort: rule.to_port, ...sources };
}

export const createSecurityGroup = action('CreateSecurityGroup', {
  about: 'Makes a security group, which lets nobody in',
  params: { GroupName: str(), GroupDescription: str() },
  not_offered: ['TagSpecification'],
  roles: ['netadmin'],
  async run(ctx, { GroupName, GroupDescription }, { groups }) {
    const group = await groups.create(ctx, GroupName, GroupDescription);
    return { return: true, groupId: groupId(group), securityGroupSet: [viewGroup(group)] };
  },
});

export const deleteSecurityGroup = action('DeleteSecurityGroup', {
  about: 'Deletes a security group that no instance and no rule of another group uses',
  params: GROUP_PARAMS,
  roles: ['netadmin'],
  async run(ctx, params, { groups }) {
    const key = groupKey(params);
    const gone = await groups.get(ctx, key);
    await groups.delete(ctx, key);
    return { return: true, groupId: groupId(gone) };
  },
});

const INGRESS = { params: { ...GROUP_PARAMS, ...RULE_PARAMS }, roles: ['netadmin'] };

export const authorizeSecurityGroupIngress = action('AuthorizeSecurityGroupIngress', {
  about: 'Lets in ranges of addresses, or the members of groups',
  ...INGRESS,
  async run(ctx, params, { groups }) {
    await groups.authorize(ctx, groupKey(params), ruleSpecs(params));
    return { return: true };
  },
});

export const revokeSecurityGroupIngress = action('RevokeSecurityGroupIngress', {
  about: 'Takes rules away; connections that are open live on',
  ...INGRESS,
  async run(ctx, params, { groups }) {
    await groups.revoke(ctx, groupKey(params), ruleSpecs(params));
    return { return: true };
  },
});
