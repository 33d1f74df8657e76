import { textIn } from '../../common/clock.ts';
import { serviceFlags } from '../../common/core_flags.ts';
import { allServices, liveServices } from '../../common/db/services.ts';
import { route } from './route.ts';

/** Where volumes are; what reported within --service_down_time is up. */
export const volumeServicesRoutes = [
  route({
    method: 'GET',
    path: '/os-services',
    about: 'Every nova-volume, whether it takes work and whether it reports; `host` and `binary` choose among them',
    policy: 'admin',
    status: 200,
    async run({ query }, { db, flags }) {
      const live = await liveServices(db, textIn(-flags.read(serviceFlags).service_down_time), 'volume');
      const up = new Set(live.map(({ id }) => id));
      const [host, binary] = [query.get('host') ?? '', query.get('binary') ?? ''];
      return (await allServices(db))
        .filter((one) => one.topic === 'volume' && [one.host, ''].includes(host) && [one.binary, ''].includes(binary))
        .map((one) => ({ ...one, is_up: up.has(one.id) }));
    },
    view: (services) => ({
      services: services.map((one) => ({
        binary: one.binary,
        host: one.host,
        zone: one.availability_zone,
        status: one.disabled === 0 ? 'enabled' : 'disabled',
        state: one.is_up ? 'up' : 'down',
        updated_at: one.updated_at,
      })),
    }),
  }),
];
