import type { RequestContext } from '../../common/context.ts';
import { PolicyNotAuthorized, UnsupportedOperation } from '../../common/errors.ts';
import { nearest } from '../../common/flags/nearest.ts';
import { DryRunOperation, InvalidAction } from './errors.ts';
import { NOT_OFFERED } from './not_offered.ts';
import { bool, decodeParams, optional, type Params, type Values } from './params.ts';
import type { ParamNode } from './query.ts';
import type { XmlObject } from './xml.ts';

/**
 * Who may call: every member of the project, administrators only, or who holds one of the roles. A role counts when the
 * user has it both globally and in the project; `ctx.roles` holds those, and `projectmanager` for the project's manager.
 */
export type Roles = 'all' | 'superuser' | readonly string[];

interface ActionSpec<P extends Params, Deps> {
  /** For the documentation: what it does, in a line. */
  readonly about: string;
  readonly params: P;
  readonly roles: Roles;
  /**
   * AWS's parameters that would change the result, and cannot be had: refused, unless empty or false. `X.N.Y`: of each X;
   * `X=v`: refused, unless v, which is how it is here.
   */
  readonly not_offered?: readonly string[];
  /** Whose XML the answer is; default ec2. */
  readonly api?: 'ec2' | 'sts';
  /** The answer depends on the database, the caller and the parameters alone, and on time by no less than a heartbeat. */
  readonly cached?: boolean;
  /** @param version of AWS's API that the client speaks, such as 2009-04-04 */
  readonly run: (ctx: RequestContext, params: Values<P>, deps: Deps, version: string) => Promise<XmlObject>;
}

/** One entry of the table that drives dispatch, validation and authorization. */
export interface Action<Deps> {
  readonly name: string;
  readonly about: string;
  readonly params: Params;
  readonly roles: Roles;
  readonly not_offered: readonly string[];
  readonly api: 'ec2' | 'sts';
  readonly cached: boolean;
  readonly call: (ctx: RequestContext, sent: ParamNode, deps: Deps) => Promise<XmlObject>;
}

/** `const action = actionsOver<Ec2Deps>()`: the maker of actions whose `run` gets these dependencies. */
export const actionsOver =
  <Deps>() =>
  <P extends Params>(
    name: string,
    { about, params, roles, not_offered = [], api = 'ec2', cached = false, run }: ActionSpec<P, Deps>,
  ): Action<Deps> => ({
    name,
    about,
    params,
    roles,
    not_offered,
    api,
    cached,
    async call(ctx, sent, deps) {
      for (const entry of not_offered) {
        const [param = '', as_it_is = 'false'] = entry.split('=');
        if (asksFor(sent, param.split('.'), as_it_is))
          throw new UnsupportedOperation(`${name} does not offer ${param} in this cloud; leave it out`);
      }
      const values = decodeParams(params, sent);
      if (dryRun.decode(sent.children?.get('DryRun'), 'DryRun')) {
        throw new DryRunOperation(`${name} would have been done, but DryRun is set`);
      }
      return run(ctx, values, deps, sent.children?.get('Version')?.value ?? '');
    },
  });
const dryRun = optional(bool(), false);

function asksFor(node: ParamNode | undefined, [part, ...rest]: readonly string[], as_it_is: string): boolean {
  if (node === undefined) return false;
  if (part === undefined) return node.children !== undefined || !['', as_it_is, undefined].includes(node.value);
  if (part === 'N') return [...(node.children?.values() ?? [])].some((item) => asksFor(item, rest, as_it_is));
  return asksFor(node.children?.get(part), rest, as_it_is);
}

export type ActionTable<Deps> = ReadonlyMap<string, Action<Deps>>;

export function actionTable<Deps>(actions: readonly Action<Deps>[]): ActionTable<Deps> {
  const table = new Map<string, Action<Deps>>();
  for (const action of actions) {
    if (table.has(action.name)) throw new Error(`two actions are named ${action.name}`);
    table.set(action.name, action);
  }
  return table;
}

/** @throws InvalidAction, or UnsupportedOperation for one that clients know from elsewhere */
export function findAction<Deps>(table: ActionTable<Deps>, name: string): Action<Deps> {
  const action = table.get(name);
  if (action) return action;
  const why = NOT_OFFERED.get(name);
  if (why !== undefined) throw new UnsupportedOperation(`${name} is not offered: ${why}`);
  throw new InvalidAction(
    `this server has no action ${name.slice(0, 80)}; nearest: ${nearest(name.slice(0, 80), table.keys())}`,
  );
}

/** Whether an action does more than look, by AWS's names for those that look. */
export const isChange = (name: string): boolean => !/^(Describe|Get)/.test(name);

/** Source: Nova 2011.3 nova/api/ec2/__init__.py, Authorizer. @throws PolicyNotAuthorized */
export function authorize(ctx: RequestContext, { name, roles }: Pick<Action<never>, 'name' | 'roles'>): void {
  if (ctx.is_admin || roles === 'all') return;
  if (roles === 'superuser') throw new PolicyNotAuthorized(`${name} is for administrators`);
  if (roles.some((role) => ctx.roles.includes(role))) return;
  throw new PolicyNotAuthorized(
    `${name} needs one of the roles ${roles.join(', ')}, held by the user both globally and in the project; ` +
      `${ctx.user_id} has in ${ctx.project_id}: ${ctx.roles.join(', ') || 'none'}. An administrator can give it: ` +
      `nova-manage role add ${ctx.user_id} ROLE, then nova-manage role add ${ctx.user_id} ROLE ${ctx.project_id}`,
  );
}
