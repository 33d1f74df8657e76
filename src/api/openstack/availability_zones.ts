import { clock } from '../../common/clock.ts';
import { allServices, zonesOf, type ServiceRow } from '../../common/db/services.ts';
import { serviceFlags } from '../../common/core_flags.ts';
import { route } from './route.ts';

/** Of both faces: the compute API's and the volume service's. Source: Nova 2012.2 nova/api/openstack/compute/contrib/availability_zone.py */
export const availabilityZoneRoutes = [
  route({
    method: 'GET',
    path: '/os-availability-zone',
    about: 'Zones, and whether a service in them takes work',
    policy: 'member',
    status: 200,
    run: (_req, { db }) => allServices(db),
    view: (services) => ({
      availabilityZoneInfo: zonesOf(services).map(({ zone_name, available }) => ({
        zoneName: zone_name,
        zoneState: { available },
        hosts: null,
      })),
    }),
  }),
  route({
    method: 'GET',
    path: '/os-availability-zone/detail',
    about: 'The same with hosts and services',
    policy: 'admin',
    status: 200,
    async run(_req, { db, flags }) {
      const alive_since = clock.now().getTime() - flags.read(serviceFlags).service_down_time * 1000;
      return { services: await allServices(db), alive_since };
    },
    view: ({ services, alive_since }) => ({
      availabilityZoneInfo: zonesOf(services).map(({ zone_name, available }) => ({
        zoneName: zone_name,
        zoneState: { available },
        hosts: hostsOf(
          services.filter((service) => service.availability_zone === zone_name),
          alive_since,
        ),
      })),
    }),
  }),
];

/** By host and binary. */
function hostsOf(services: readonly ServiceRow[], alive_since: number): Record<string, Record<string, object>> {
  const hosts: Record<string, Record<string, object>> = {};
  for (const { host, binary, disabled, updated_at } of services) {
    const available = Date.parse(updated_at ?? '') >= alive_since;
    (hosts[host] ??= {})[binary] = { available, active: disabled === 0, updated_at };
  }
  return hosts;
}
