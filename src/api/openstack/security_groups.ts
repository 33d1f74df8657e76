import { z } from 'zod';
import { InvalidInput, SecurityGroupNotFound, SecurityGroupRuleNotFound } from '../../common/errors.ts';
import type { RuleSource, SecurityGroupView } from '../../compute/security_group_api.ts';
import { Whole } from '../json_body.ts';
import { idNumber } from './pagination.ts';
import { route } from './route.ts';
import { serverId } from './server_query.ts';
import { Id } from './volumes.ts';

type Rule = SecurityGroupView['rules'][number];

const NewGroup = z.object({ security_group: z.object({ name: z.string(), description: z.string() }) });

/** A name, or as today's openstack client puts it the group's number. */
const GroupOfServer = z.object({ name: z.union([z.string().trim().min(1), z.number().int().transform(String)]) });

/** Nova's clients send null for what they leave out. */
const NewRule = z.object({
  security_group_rule: z.object({
    parent_group_id: Id,
    ip_protocol: z.union([z.string(), z.number().transform(String)]).nullish(),
    from_port: Whole.nullish(),
    to_port: Whole.nullish(),
    cidr: z.string().nullish(),
    group_id: Id.nullish(),
  }),
});
type NewRule = z.infer<typeof NewRule>['security_group_rule'];

function groupId(text: string): { id: number } {
  const id = idNumber(text);
  if (id === undefined) throw new InvalidInput(`'${text.slice(0, 80)}' is not the number of a security group`);
  return { id };
}

/** The openstack client sends `0.0.0.0/0` beside a group, which in Nova went before it. */
const EVERYBODY = '0.0.0.0/0';

/** @throws InvalidInput */
function sourceOf({ cidr, group_id }: NewRule): RuleSource {
  if (group_id == null) return { cidr: cidr ?? EVERYBODY };
  if (cidr != null && cidr !== EVERYBODY) throw new InvalidInput('a rule has a cidr or a group_id, not both');
  return { group: { id: group_id } };
}

/** One rule, with one number to delete it by; EC2, which shows protocols, makes three of it. */
const wholeGroup = ({ group_id, from_port, to_port }: NewRule): boolean =>
  group_id != null && from_port == null && to_port == null;

const viewRule = (rule: Rule): object => ({
  id: rule.id,
  parent_group_id: rule.parent_group_id,
  ip_protocol: rule.protocol === '-1' ? null : rule.protocol,
  from_port: rule.from_port,
  to_port: rule.to_port,
  group: rule.group_id === null ? {} : { name: rule.source_name, tenant_id: rule.source_project },
  ip_range: rule.cidr === null ? {} : { cidr: rule.cidr },
});

const viewGroup = ({ id, name, description, project_id, rules }: SecurityGroupView): object => ({
  id,
  name,
  description,
  tenant_id: project_id,
  rules: rules.map(viewRule),
});

/** A name that is taken, and a rule that is there, are bad requests here. */
const DUPLICATE = { 409: 400 };

/** Source: Nova 2011.3 nova/api/openstack/contrib/security_groups.py */
export const securityGroupRoutes = [
  route({
    method: 'GET',
    path: '/os-security-groups',
    about: "The project's security groups with their rules; `default` is always among them",
    policy: 'member',
    status: 200,
    run: ({ ctx }, { groups }) => groups.list(ctx),
    view: (groups) => ({ security_groups: groups.map(viewGroup) }),
  }),
  route({
    method: 'GET',
    path: '/os-security-groups/:id',
    about: 'One security group with its rules',
    policy: 'member',
    status: 200,
    run: ({ ctx, params }, { groups }) => groups.get(ctx, groupId(params.id)),
    view: (group) => ({ security_group: viewGroup(group) }),
  }),
  route({
    method: 'POST',
    path: '/os-security-groups',
    about: 'Makes a security group, which lets nobody in',
    policy: 'member',
    body: NewGroup,
    status: 200,
    statuses: DUPLICATE,
    run: ({ ctx, body }, { groups }) =>
      groups.create(ctx, body.security_group.name.trim(), body.security_group.description.trim()),
    view: (group) => ({ security_group: viewGroup(group) }),
  }),
  route({
    method: 'DELETE',
    path: '/os-security-groups/:id',
    about: 'Deletes a security group that no server and no rule of another group uses',
    policy: 'member',
    status: 202,
    run: ({ ctx, params }, { groups }) => groups.delete(ctx, groupId(params.id)),
  }),
  route({
    method: 'POST',
    path: '/os-security-group-rules',
    about: 'Lets in a range of addresses, or the members of a group',
    policy: 'member',
    body: NewRule,
    status: 200,
    statuses: DUPLICATE,
    async run({ ctx, body }, { groups }) {
      const { parent_group_id: id, ip_protocol, from_port, to_port, ...rest } = body.security_group_rule;
      const [rule] = await groups.authorize(ctx, { id }, [
        {
          protocol: ip_protocol ?? (wholeGroup(body.security_group_rule) ? '-1' : undefined),
          from_port: from_port ?? undefined,
          to_port: to_port ?? undefined,
          source: sourceOf({ parent_group_id: id, ...rest }),
        },
      ]);
      if (rule === undefined) throw new SecurityGroupNotFound(`security group ${id} went away just now`);
      return rule;
    },
    view: (rule) => ({ security_group_rule: viewRule(rule) }),
  }),
  route({
    method: 'GET',
    path: '/servers/:id/os-security-groups',
    about: 'The security groups that a server is in',
    policy: 'member',
    status: 200,
    async run({ ctx, params }, { compute, groups }) {
      const { security_groups } = await compute.get(ctx, serverId(params.id));
      const known = await groups.list(ctx, { every_project: true });
      return known.filter((group) => security_groups.some(({ id }) => id === group.id));
    },
    view: (groups) => ({ security_groups: groups.map(viewGroup) }),
  }),
  route({
    method: 'POST',
    path: '/servers/:id/action',
    action: 'addSecurityGroup',
    about: 'Puts a server into a security group of its project; in force at once',
    policy: 'member',
    body: GroupOfServer,
    status: 202,
    statuses: DUPLICATE,
    run: ({ ctx, params, body }, { groups }) => groups.join(ctx, serverId(params.id), body.name),
  }),
  route({
    method: 'POST',
    path: '/servers/:id/action',
    action: 'removeSecurityGroup',
    about: 'Takes a server out of a security group; in force at once, save for connections that are open',
    policy: 'member',
    body: GroupOfServer,
    status: 202,
    statuses: DUPLICATE,
    run: ({ ctx, params, body }, { groups }) => groups.leave(ctx, serverId(params.id), body.name),
  }),
  route({
    method: 'DELETE',
    path: '/os-security-group-rules/:id',
    about: 'Takes one rule away',
    policy: 'member',
    status: 202,
    async run({ ctx, params }, { groups }) {
      const id = idNumber(params.id);
      if (id === undefined)
        throw new SecurityGroupRuleNotFound(`there is no security group rule ${params.id.slice(0, 80)}`);
      await groups.revokeById(ctx, id);
    },
  }),
];
