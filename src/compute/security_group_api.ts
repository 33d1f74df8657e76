import type { RequestContext } from '../common/context.ts';
import { lockProject, writing, type NovaDb, type Tx } from '../common/db/connect.ts';
import { recordEvent } from '../common/db/events.ts';
import { ec2InstanceId, lockInstance, visibleInstance, type Instance } from '../common/db/instances.ts';
import { projectQuota, quotaFlags } from '../common/db/quotas.ts';
import {
  groupsThatLetIn,
  insertRule,
  removeRule,
  ruleById,
  rulesOfGroups,
  type SecurityGroupRule,
} from '../common/db/security_group_rules.ts';
import {
  allGroups,
  ensureDefaultGroup,
  groupById,
  groupByName,
  groupsOfInstance,
  groupsOfProject,
  insertGroup,
  joinGroup,
  leaveGroup,
  membersOfGroup,
  removeGroup,
  ec2GroupId,
  type SecurityGroup,
} from '../common/db/security_groups.ts';
import {
  Conflict,
  InstanceNotFound,
  InvalidInput,
  QuotaError,
  SecurityGroupExists,
  SecurityGroupInUse,
  SecurityGroupNotFound,
  SecurityGroupRuleExists,
  SecurityGroupRuleNotFound,
} from '../common/errors.ts';
import type { Flags, FlagValues } from '../common/flags.ts';
import type { Log } from '../common/log.ts';
import { instanceResource } from '../common/rpc/contract.ts';
import type { RpcBus } from '../common/rpc/bus.ts';
import { checkGroupText, ruleCidr, rulePorts, type RulePorts, type RuleRequest } from './logic/security_rules.ts';
import { computeClient } from './rpc.ts';

/** A group by its number, or by its name in the caller's project. */
export type GroupKey = { id: number; name?: string } | { name: string };

/** Who is let in: a range of addresses, or the members of a group, of another project where `project_id` says so. */
export type RuleSource = { cidr: string } | { group: GroupKey; project_id?: string | undefined };

/** One rule that is asked for, or asked to go. */
export type RuleSpec = RuleRequest & { source: RuleSource };

export interface SecurityGroupView extends SecurityGroup {
  rules: SecurityGroupRule[];
}

/** A rule as it is stored, before it has an id. */
type NewRule = RulePorts & { cidr: string | null; group_id: number | null };

/**
 * Security groups, for both HTTP APIs. What is written here is in force on every compute host shortly after: a fanout
 * tells them, and their periodic pass finds what a lost message left undone. Source: Nova 2011.3 nova/api/ec2/cloud.py,
 * nova/api/openstack/contrib/security_groups.py.
 */
export class SecurityGroupApi {
  readonly #db: NovaDb;
  readonly #bus: RpcBus;
  readonly #log: Log;
  readonly #quotas: FlagValues<typeof quotaFlags>;
  readonly #compute: ReturnType<typeof computeClient>;

  constructor({ db, flags, bus, log }: { db: NovaDb; flags: Flags; bus: RpcBus; log: Log }) {
    this.#db = db;
    this.#bus = bus;
    this.#log = log;
    this.#quotas = flags.read(quotaFlags);
    this.#compute = computeClient(bus);
  }

  /** The project's groups, `default` always among them; with `every_project`, an administrator's: all. */
  async list(ctx: RequestContext, { every_project = false } = {}): Promise<SecurityGroupView[]> {
    const { user_id, project_id } = owner(ctx);
    await ensureDefaultGroup(this.#db, project_id, user_id);
    const groups =
      ctx.is_admin && every_project ? await allGroups(this.#db) : await groupsOfProject(this.#db, project_id);
    return this.#withRules(groups);
  }

  /** @throws SecurityGroupNotFound */
  async get(ctx: RequestContext, key: GroupKey): Promise<SecurityGroupView> {
    const [view] = await this.#withRules([await this.#find(this.#db, ctx, key)]);
    return view as SecurityGroupView;
  }

  async #withRules(groups: readonly SecurityGroup[]): Promise<SecurityGroupView[]> {
    const of = new Map(groups.map((group): [number, SecurityGroupView] => [group.id, { ...group, rules: [] }]));
    for (const rule of await rulesOfGroups(this.#db, [...of.keys()])) of.get(rule.parent_group_id)?.rules.push(rule);
    return [...of.values()];
  }

  /** A new group lets nobody in. @throws InvalidInput, SecurityGroupExists, QuotaError */
  async create(ctx: RequestContext, name: string, description: string): Promise<SecurityGroupView> {
    checkGroupText('name', name);
    checkGroupText('description', description);
    const { user_id, project_id } = owner(ctx);
    const group = await writing(this.#db, async (tx) => {
      await lockProject(tx, this.#db.dialect, project_id);
      await ensureDefaultGroup(tx, project_id, user_id);
      await this.#withinQuota(tx, project_id, 'security_groups', (await groupsOfProject(tx, project_id)).length + 1);
      return insertGroup(tx, { name: name.trim(), description, user_id, project_id });
    });
    return { ...group, rules: [] };
  }

  /** @throws SecurityGroupNotFound; SecurityGroupInUse naming who uses it; Conflict for `default` */
  async delete(ctx: RequestContext, key: GroupKey): Promise<void> {
    await writing(this.#db, async (tx) => {
      const group = await this.#find(tx, ctx, key);
      if (group.name === 'default')
        throw new Conflict(`the group default of project ${group.project_id} cannot be deleted: every project has one`);
      await lockProject(tx, this.#db.dialect, group.project_id); // launches into it and rules about it wait
      await this.#checkUnused(tx, group);
      if (!(await removeGroup(tx, group.id))) throw notThere(key, group.project_id);
    });
  }

  async #checkUnused(tx: Tx, group: SecurityGroup): Promise<void> {
    const members = await membersOfGroup(tx, group.id);
    if (members.length > 0)
      throw new SecurityGroupInUse(
        `security group ${group.name} has ${members.length} instances: ${some(members.map(ec2InstanceId))}. Terminate them first`,
      );
    const letting = await groupsThatLetIn(tx, group.id);
    if (letting.length > 0)
      throw new SecurityGroupInUse(
        `${letting.length} security groups have rules that let ${group.name} in: ` +
          `${some(letting.map((by) => `${by.name} of ${by.project_id}`))}. Revoke those first`,
      );
  }

  /**
   * Adds rules, all or none.
   * @returns them as they are stored
   * @throws SecurityGroupNotFound, InvalidInput, SecurityGroupRuleExists, QuotaError
   */
  async authorize(ctx: RequestContext, key: GroupKey, specs: readonly RuleSpec[]): Promise<SecurityGroupRule[]> {
    const { id, added } = await writing(this.#db, async (tx) => {
      const { group, rules } = await this.#prepare(tx, ctx, key, specs);
      const there = await rulesOfGroups(tx, [group.id]);
      await this.#withinQuota(tx, group.project_id, 'security_group_rules', there.length + rules.length);
      const added: number[] = [];
      for (const [i, rule] of rules.entries()) {
        if ([...there, ...rules.slice(0, i)].some((one) => sameRule(one, rule)))
          throw new SecurityGroupRuleExists(`security group ${group.name} lets in ${ruleText(rule)} already`);
        added.push(await insertRule(tx, { ...rule, parent_group_id: group.id }));
      }
      return { id: group.id, added };
    });
    await this.#changed(ctx, id);
    return (await rulesOfGroups(this.#db, [id])).filter((rule) => added.includes(rule.id));
  }

  /** Takes rules away, all or none. @throws SecurityGroupNotFound, InvalidInput, SecurityGroupRuleNotFound */
  async revoke(ctx: RequestContext, key: GroupKey, specs: readonly RuleSpec[]): Promise<void> {
    const id = await writing(this.#db, async (tx) => {
      const { group, rules } = await this.#prepare(tx, ctx, key, specs);
      const there = await rulesOfGroups(tx, [group.id]);
      for (const rule of rules) {
        const found = there.find((one) => sameRule(one, rule));
        if (!found || !(await removeRule(tx, found.id)))
          throw new SecurityGroupRuleNotFound(
            `security group ${group.name} has no rule that lets in ${ruleText(rule)}`,
          );
      }
      return group.id;
    });
    await this.#changed(ctx, id);
  }

  /** @throws SecurityGroupRuleNotFound */
  async revokeById(ctx: RequestContext, rule_id: number): Promise<void> {
    const missing = () => new SecurityGroupRuleNotFound(`there is no security group rule ${rule_id}`);
    const id = await writing(this.#db, async (tx) => {
      const rule = await ruleById(tx, rule_id);
      const group = rule && (await groupById(tx, rule.parent_group_id));
      if (!rule || !group || !mayTouch(ctx, group)) throw missing();
      if (!(await removeRule(tx, rule.id))) throw missing();
      return group.id;
    });
    await this.#changed(ctx, id);
  }

  /**
   * Puts an instance into a group of its project, by name or number; in force at once, also for one that runs.
   * @throws InstanceNotFound, SecurityGroupNotFound, SecurityGroupExists when it is in it already
   */
  async join(ctx: RequestContext, instance: number | string, name: string): Promise<void> {
    await this.#changeGroups(ctx, instance, async (tx, { id, project_id }) => {
      const group = await groupByText(tx, project_id, name);
      if (!(await joinGroup(tx, group.id, id)))
        throw new SecurityGroupExists(`${ec2InstanceId(id)} is in the security group ${group.name} already`);
      return { joined: [group], left: [] };
    });
  }

  /** @throws InstanceNotFound, SecurityGroupNotFound, Conflict when it is not in it */
  async leave(ctx: RequestContext, instance: number | string, name: string): Promise<void> {
    await this.#changeGroups(ctx, instance, async (tx, { id, project_id }) => {
      const group = await groupByText(tx, project_id, name);
      if (!(await leaveGroup(tx, group.id, id)))
        throw new Conflict(`${ec2InstanceId(id)} is not in the security group ${group.name}`);
      return { joined: [], left: [group] };
    });
  }

  /** From now an instance is in exactly these groups of its project. @throws InstanceNotFound, SecurityGroupNotFound */
  async setGroups(ctx: RequestContext, instance: number | string, ids: readonly number[]): Promise<void> {
    await this.#changeGroups(ctx, instance, async (tx, { id, project_id }) => {
      const known = await groupsOfProject(tx, project_id);
      const wanted = ids.map((wanted_id) => {
        const group = known.find((one) => one.id === wanted_id);
        if (!group) throw notThere({ id: wanted_id }, project_id);
        return group;
      });
      const before = await groupsOfInstance(tx, id);
      const joined = wanted.filter((group) => !before.includes(group.id));
      const left = known.filter((group) => before.includes(group.id) && !ids.includes(group.id));
      for (const group of joined) await joinGroup(tx, group.id, id);
      for (const group of left) await leaveGroup(tx, group.id, id);
      return { joined, left };
    });
  }

  async #changeGroups(
    ctx: RequestContext,
    instance: number | string,
    change: (tx: Tx, of: Instance) => Promise<Record<'joined' | 'left', readonly SecurityGroup[]>>,
  ): Promise<void> {
    const groups = await writing(this.#db, async (tx) => {
      const { id, project_id } = await visibleInstance(tx, ctx, instance);
      await lockProject(tx, this.#db.dialect, project_id); // who deletes the group waits, or we do
      const row = await lockInstance(tx, this.#db.dialect, id);
      if (!row) throw new InstanceNotFound(`${ec2InstanceId(id)} was deleted just now`);
      const { joined, left } = await change(tx, row);
      for (const { name } of joined)
        await recordEvent(tx, ctx, instanceResource(id), 'security group added', null, { security_group: name });
      for (const { name } of left)
        await recordEvent(tx, ctx, instanceResource(id), 'security group removed', null, { security_group: name });
      return [...joined, ...left];
    });
    for (const { id } of groups.slice(0, 1)) await this.#changed(ctx, id); // a host reads all anew
  }

  /** The group, and the rules in the form in which they are stored; what they are about stays until the transaction ends. */
  async #prepare(
    tx: Tx,
    ctx: RequestContext,
    key: GroupKey,
    specs: readonly RuleSpec[],
  ): Promise<{ group: SecurityGroup; rules: NewRule[] }> {
    if (specs.length === 0) throw new InvalidInput('no rule was given');
    const group = await this.#find(tx, ctx, key);
    const projects = new Set([group.project_id]);
    for (const { source } of specs) {
      if ('group' in source) projects.add((await this.#source(tx, ctx, source)).project_id);
    }
    for (const project_id of [...projects].sort()) await lockProject(tx, this.#db.dialect, project_id);
    const rules: NewRule[] = [];
    for (const { source, ...request } of specs)
      if ('group' in source) {
        const { id: group_id } = await this.#source(tx, ctx, source);
        rules.push(...rulePorts(request, 'group').map((ports) => ({ ...ports, cidr: null, group_id })));
      } else {
        const cidr = ruleCidr(source.cidr);
        rules.push(...rulePorts(request, 'cidr').map((ports) => ({ ...ports, cidr, group_id: null })));
      }
    return { group, rules };
  }

  /** A source group is known by its name or number, and may be of another project when that is named. */
  async #source(
    db: NovaDb | Tx,
    ctx: RequestContext,
    { group: key, project_id = owner(ctx).project_id }: Extract<RuleSource, { group: GroupKey }>,
  ): Promise<SecurityGroup> {
    if (!('id' in key)) return groupByName(db, project_id, key.name);
    const group = await groupById(db, key.id);
    if (!group || (group.project_id !== project_id && !ctx.is_admin)) throw notThere(key, project_id);
    return called(group, key.name);
  }

  async #find(db: NovaDb | Tx, ctx: RequestContext, key: GroupKey): Promise<SecurityGroup> {
    const { project_id, user_id } = owner(ctx);
    if (!('id' in key)) {
      if (key.name === 'default') await ensureDefaultGroup(db, project_id, user_id);
      return groupByName(db, project_id, key.name);
    }
    const group = await groupById(db, key.id);
    if (!group || !mayTouch(ctx, group)) throw notThere(key, project_id);
    return called(group, key.name);
  }

  async #withinQuota(
    tx: Tx,
    project_id: string,
    resource: 'security_groups' | 'security_group_rules',
    wanted: number,
  ): Promise<void> {
    const limit = (await projectQuota(tx, this.#quotas, project_id))[resource];
    if (limit === null || wanted <= limit) return;
    const what =
      resource === 'security_groups' ? `security groups of project ${project_id}` : 'rules of one security group';
    throw new QuotaError(`${wanted} ${what} would be more than the quota of ${limit}. Delete some, or have it raised`);
  }

  /** Tells the hosts. A broker that is away delays them until their next period, and the request is done all the same. */
  async #changed(ctx: RequestContext, security_group_id: number): Promise<void> {
    if (!this.#bus.connected) return;
    try {
      await this.#compute.everywhere.refreshSecurityGroupRules(ctx, { security_group_id });
    } catch (err) {
      this.#log.info({ err, security_group_id }, 'hosts were not told of changed rules; they look by themselves');
    }
  }
}

function owner(ctx: RequestContext): { user_id: string; project_id: string } {
  if (ctx.user_id === null || ctx.project_id === null)
    throw new InvalidInput('security groups belong to a project, and the request has none');
  return { user_id: ctx.user_id, project_id: ctx.project_id };
}

/** By its name, or where none is called so by its number. @throws SecurityGroupNotFound */
async function groupByText(tx: Tx, project_id: string, text: string): Promise<SecurityGroup> {
  const known = await groupsOfProject(tx, project_id);
  const group = known.find(({ name }) => name === text) ?? known.find(({ id }) => String(id) === text);
  return group ?? Promise.reject(notThere({ name: text }, project_id));
}

const mayTouch = (ctx: RequestContext, group: SecurityGroup): boolean =>
  ctx.is_admin || group.project_id === ctx.project_id;

const notThere = (key: GroupKey, project_id: string): SecurityGroupNotFound =>
  new SecurityGroupNotFound(
    `project ${project_id} has no security group ${'id' in key ? ec2GroupId(key.id) : key.name.slice(0, 255)}`,
  );

/** EC2 shows a group by id and name, and its clients send both back. @throws InvalidInput when they are of two groups */
function called(group: SecurityGroup, name: string | undefined): SecurityGroup {
  if (name === undefined || name === group.name) return group;
  throw new InvalidInput(`${ec2GroupId(group.id)} is the security group ${group.name}, not ${name.slice(0, 255)}`);
}

const sameRule = (a: NewRule, b: NewRule): boolean =>
  a.protocol === b.protocol &&
  a.from_port === b.from_port &&
  a.to_port === b.to_port &&
  a.cidr === b.cidr &&
  a.group_id === b.group_id;

const ruleText = ({ protocol, from_port, to_port, cidr, group_id }: NewRule): string =>
  `${protocol === '-1' ? 'all' : `${protocol} ${from_port} to ${to_port}`} from ${cidr ?? ec2GroupId(group_id ?? 0)}`;

const some = (names: readonly string[]): string =>
  names.slice(0, 3).join(', ') + (names.length > 3 ? ` and ${names.length - 3} more` : '');
