import { InvalidInput, MissingParameter, SecurityGroupNotFound } from '../../common/errors.ts';
import type { GroupKey, RuleSource, RuleSpec } from '../../compute/security_group_api.ts';
import { parseId } from './ids.ts';
import { int, list, optional, str, struct, type Values } from './params.ts';

export const GROUP_PARAMS = { GroupName: optional(str()), GroupId: optional(str()) };

/** The one group that a request is about. @throws MissingParameter, InvalidInput, SecurityGroupNotFound */
export function groupKey({ GroupName, GroupId }: Values<typeof GROUP_PARAMS>, prefix = ''): GroupKey {
  if (GroupId !== undefined) return { id: groupNumber(GroupId), ...(GroupName && { name: GroupName }) };
  if (GroupName !== undefined) return { name: GroupName };
  throw new MissingParameter(`name the group: by ${prefix}GroupName, or by ${prefix}GroupId`);
}

/** `sg-0000000b`, or `11` as Diablo took it. */
export function groupNumber(text: string): number {
  const id = /^\d{1,9}$/.test(text) ? Number(text) : parseId(['sg'], text);
  if (id === undefined) throw new InvalidInput(`'${text.slice(0, 80)}' is not a group id such as sg-0000000b`);
  if (id === null) throw new SecurityGroupNotFound(`there is no security group ${text}`);
  return id;
}

const permission = struct({
  IpProtocol: optional(str()),
  FromPort: optional(int()),
  ToPort: optional(int()),
  Groups: list(struct({ ...GROUP_PARAMS, UserId: optional(str()) })),
  IpRanges: list(struct({ CidrIp: str() })),
  Ipv6Ranges: list(struct({ CidrIpv6: str() })),
});

/** Rules in 2011's form, which says one in the parameters themselves, and in today's, a list of permissions. */
export const RULE_PARAMS = {
  IpProtocol: optional(str()),
  FromPort: optional(int()),
  ToPort: optional(int()),
  CidrIp: optional(str()),
  SourceSecurityGroupName: optional(str()),
  SourceSecurityGroupOwnerId: optional(str()),
  IpPermissions: list(permission),
};
type RuleParams = Values<typeof RULE_PARAMS>;
const FLAT = [
  'IpProtocol',
  'FromPort',
  'ToPort',
  'CidrIp',
  'SourceSecurityGroupName',
  'SourceSecurityGroupOwnerId',
] as const;

/** @throws InvalidInput, MissingParameter */
export function ruleSpecs(params: RuleParams): RuleSpec[] {
  const { IpPermissions } = params;
  if (IpPermissions.length === 0) return [flatRule(params)];
  const both = FLAT.find((name) => params[name] !== undefined);
  if (both !== undefined)
    throw new InvalidInput(`rules come as IpPermissions or as ${both} and its like, not as both at once`);
  return IpPermissions.flatMap(permissionRules);
}

function flatRule(params: Omit<RuleParams, 'IpPermissions'>): RuleSpec {
  const { SourceSecurityGroupName: name, SourceSecurityGroupOwnerId: owner, CidrIp } = params;
  const request = { protocol: params.IpProtocol, from_port: params.FromPort, to_port: params.ToPort };
  if (name === undefined) {
    if (owner !== undefined)
      throw new MissingParameter('SourceSecurityGroupOwnerId came without SourceSecurityGroupName');
    return { ...request, source: { cidr: CidrIp ?? '0.0.0.0/0' } };
  }
  if (CidrIp !== undefined) throw new InvalidInput('a rule is about CidrIp or SourceSecurityGroupName, not both');
  return { ...request, source: { group: { name }, project_id: projectOf(owner) } };
}

/** One permission is a rule for each of its sources. */
function permissionRules(one: Values<typeof RULE_PARAMS>['IpPermissions'][number], index: number): RuleSpec[] {
  const name = `IpPermissions.${index + 1}`;
  const sources: RuleSource[] = [
    ...one.IpRanges.map(({ CidrIp }) => ({ cidr: CidrIp })),
    ...one.Ipv6Ranges.map(({ CidrIpv6 }) => ({ cidr: CidrIpv6 })),
    ...one.Groups.map(({ UserId, ...group }, i) => ({
      group: groupKey(group, `${name}.Groups.${i + 1}.`),
      project_id: projectOf(UserId),
    })),
  ];
  if (sources.length === 0)
    throw new MissingParameter(`${name} lets nobody in: give it IpRanges, Ipv6Ranges or Groups`);
  const request = { protocol: one.IpProtocol, from_port: one.FromPort, to_port: one.ToPort };
  return sources.map((source) => ({ ...request, source }));
}

/** Owners are projects; 2011's clients wrote `user:project`. */
const projectOf = (owner: string | undefined): string | undefined => owner?.slice(owner.lastIndexOf(':') + 1);
