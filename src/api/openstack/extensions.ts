import { NotFound } from '../../common/errors.ts';
import { route } from './route.ts';

interface Extension {
  name: string;
  alias: string;
  description: string;
  namespace: string;
  updated: string;
  links: [];
}

/** What is offered beside the core. Source: Nova 2011.3 nova/api/openstack/contrib/ */
const EXTENSIONS: readonly Extension[] = [
  {
    name: 'Keypairs',
    alias: 'os-keypairs',
    description: 'Keypair Support',
    namespace: 'http://docs.openstack.org/ext/keypairs/api/v1.1',
    updated: '2011-08-08T00:00:00+00:00',
    links: [],
  },
  {
    name: 'SecurityGroups',
    alias: 'security_groups',
    description: 'Security group support',
    namespace: 'http://docs.openstack.org/ext/securitygroups/api/v1.1',
    updated: '2011-07-21T00:00:00+00:00',
    links: [],
  },
  {
    name: 'Floating_ips',
    alias: 'os-floating-ips',
    description: 'Floating IPs support',
    namespace: 'http://docs.openstack.org/ext/floating_ips/api/v1.1',
    updated: '2011-06-16T00:00:00+00:00',
    links: [],
  },
  {
    name: 'Floating_ip_pools',
    alias: 'os-floating-ip-pools',
    description: 'Floating IPs support: the one pool that there is',
    namespace: 'http://docs.openstack.org/ext/floating_ip_pools/api/v1.1',
    updated: '2012-01-04T00:00:00+00:00',
    links: [],
  },
  {
    name: 'Multinic',
    alias: 'NMN',
    description: 'Multiple network support: further addresses of a card',
    namespace: 'http://docs.openstack.org/ext/multinic/api/v1.1',
    updated: '2011-06-09T00:00:00+00:00',
    links: [],
  },
  {
    name: 'Console_output',
    alias: 'os-console-output',
    description: 'Console log output support, with tailing ability.',
    namespace: 'http://docs.openstack.org/ext/os-console-output/api/v1.1',
    updated: '2011-12-08T00:00:00+00:00',
    links: [],
  },
  {
    name: 'FlavorExtraSpecs',
    alias: 'os-flavor-extra-specs',
    description: 'Instance type (flavor) extra specs: there are none',
    namespace: 'http://docs.openstack.org/ext/flavor_extra_specs/api/v1.1',
    updated: '2011-06-23T00:00:00+00:00',
    links: [],
  },
  {
    name: 'Volumes',
    alias: 'os-volumes',
    description: 'Volumes support, with snapshots and attachments to servers',
    namespace: 'http://docs.openstack.org/ext/volumes/api/v1.1',
    updated: '2011-03-25T00:00:00+00:00',
    links: [],
  },
  {
    name: 'VolumeTypes',
    alias: 'os-volume-types',
    description: 'Volume types support',
    namespace: 'http://docs.openstack.org/ext/volume_types/api/v1.1',
    updated: '2011-08-24T00:00:00+00:00',
    links: [],
  },
  {
    name: 'Quotas',
    alias: 'os-quota-sets',
    description: 'Quotas management support',
    namespace: 'http://docs.openstack.org/ext/quotas-sets/api/v1.1',
    updated: '2011-08-08T00:00:00+00:00',
    links: [],
  },
  {
    name: 'AvailabilityZone',
    alias: 'os-availability-zone',
    description: 'Zones, and whether a service in them takes work',
    namespace: 'http://docs.openstack.org/compute/ext/availabilityzone/api/v1.1',
    updated: '2012-12-21T00:00:00+00:00',
    links: [],
  },
];

export const extensionRoutes = [
  route({
    method: 'GET',
    path: '/extensions',
    about: 'What is offered beside the core',
    policy: 'member',
    status: 200,
    run: () => Promise.resolve(EXTENSIONS),
    view: (extensions) => ({ extensions }),
  }),
  route({
    method: 'GET',
    path: '/extensions/:alias',
    about: 'One extension',
    policy: 'member',
    status: 200,
    run({ params }) {
      const found = EXTENSIONS.find(({ alias }) => alias === params.alias);
      return found === undefined
        ? Promise.reject(new NotFound(`there is no extension ${params.alias.slice(0, 80)}`))
        : Promise.resolve(found);
    },
    view: (extension) => ({ extension }),
  }),
];
