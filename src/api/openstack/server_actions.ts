import { z } from 'zod';
import { NotImplemented } from '../http_errors.ts';
import { Whole } from '../json_body.ts';
import { route } from './route.ts';
import { serverId } from './server_query.ts';

const action = '/servers/:id/action';

/** Nova's actions that this suite does not have. */
const NOT_OFFERED =
  'changePassword confirmResize createBackup createImage injectNetworkInfo lock migrate os-start os-stop pause rebuild rescue resetNetwork resize resume revertResize suspend unlock unpause unrescue'.split(
    ' ',
  );

/** Source: Nova 2011.3 nova/api/openstack/servers.py, action */
export const serverActionRoutes = [
  route({
    method: 'POST',
    path: action,
    action: 'reboot',
    about: 'Restarts a server: SOFT asks its system to, HARD takes the power away',
    policy: 'member',
    body: z.object({
      type: z
        .string()
        .toUpperCase()
        .pipe(z.enum(['SOFT', 'HARD'], 'is SOFT or HARD')),
    }),
    status: 202,
    run: ({ ctx, params, body }, { compute }) => compute.reboot(ctx, serverId(params.id), body.type),
  }),
  route({
    method: 'POST',
    path: action,
    action: 'os-getConsoleOutput',
    about: 'The end of what a server wrote to its serial console, `length` lines of it',
    policy: 'member',
    looks: true,
    body: z.object({ length: Whole.pipe(z.number().min(-1, 'is less than -1')).nullish() }),
    status: 200,
    async run({ ctx, params, body }, { compute }) {
      const text = await compute.consoleOutput(ctx, serverId(params.id));
      return body.length == null || body.length < 0 ? text : lastLines(text, body.length);
    },
    view: (output) => ({ output }),
  }),
  ...NOT_OFFERED.map((name) =>
    route({
      method: 'POST',
      path: action,
      action: name,
      about: 'Not offered',
      policy: 'member',
      status: 202,
      run: () => Promise.reject(new NotImplemented(`the action ${name} is not offered`)),
    }),
  ),
];

function lastLines(text: string, count: number): string {
  const lines = text.split('\n');
  const ends = lines.at(-1) === '' ? 1 : 0; // the line feed that ends the last line
  return count === 0 ? '' : lines.slice(-(count + ends)).join('\n');
}
