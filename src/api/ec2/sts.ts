import { actionsOver } from './action.ts';

/** Who am I: the first call of many tools of today. */
export const getCallerIdentity = actionsOver<unknown>()('GetCallerIdentity', {
  about: 'STS: who the credentials stand for',
  api: 'sts',
  params: {},
  roles: 'all',
  run: (ctx) =>
    Promise.resolve({
      Arn: `arn:aws:iam::${ctx.project_id}:user/${ctx.user_id}`,
      UserId: ctx.user_id,
      Account: ctx.project_id,
    }),
});
