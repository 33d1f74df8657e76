import { clock } from '../../common/clock.ts';
import { allServices, zonesOf, type ServiceRow } from '../../common/db/services.ts';
import { InvalidInput } from '../../common/errors.ts';
import { action, type Ec2Deps } from './deps.ts';
import { filters, matcher } from './filters.ts';
import { list, str } from './params.ts';
import type { XmlObject } from './xml.ts';

type Zone = { zone_name: string; zone_state: string };

export const describeAvailabilityZones = action('DescribeAvailabilityZones', {
  about: 'Zones, and whether a service in them takes work; for an administrator `ZoneName=verbose` shows every service',
  params: { ZoneName: list(str()), Filter: filters() },
  roles: 'all',
  async run(ctx, { ZoneName, Filter }, { db, settings }) {
    const services = await allServices(db);
    if (ctx.is_admin && ZoneName.includes('verbose')) {
      return { availabilityZoneInfo: everyService(services, settings.service_down_time) };
    }
    const matches = matcher<Zone>(Filter, {
      'zone-name': ({ zone_name }) => zone_name,
      state: ({ zone_state }) => zone_state,
    });
    const zones = zonesOf(services)
      .map(({ zone_name, available }) => ({ zone_name, zone_state: available ? 'available' : 'not available' }))
      .filter((zone) => (ZoneName.length === 0 || ZoneName.includes(zone.zone_name)) && matches(zone));
    const regionName = regions(settings)[0]?.regionName;
    return {
      availabilityZoneInfo: zones.map((zone) => ({
        ...zone,
        regionName,
        zoneId: zone.zone_name,
        groupName: zone.zone_name,
        zoneType: 'availability-zone',
        optInStatus: 'opt-in-not-required',
      })),
    };
  },
});

/** What an administrator who asks for the zone `verbose` gets: a tree of hosts and services, drawn with bars. */
function everyService(services: readonly ServiceRow[], service_down_time_s: number): Zone[] {
  const alive_since = clock.now().getTime() - service_down_time_s * 1000;
  const rows: Zone[] = [{ zone_name: 'nova', zone_state: 'available' }];
  for (const host of new Set(services.map((service) => service.host))) {
    rows.push({ zone_name: `|- ${host}`, zone_state: '' });
    for (const { binary, disabled, updated_at } of services.filter((service) => service.host === host)) {
      const alive = Date.parse(updated_at ?? '') >= alive_since ? ':-)' : 'XXX';
      const zone_state = `${disabled === 0 ? 'enabled' : 'disabled'} ${alive} ${updated_at ?? ''}`;
      rows.push({ zone_name: `| |- ${binary}`, zone_state });
    }
  }
  return rows;
}

export const describeRegions = action('DescribeRegions', {
  about: 'This cloud, or those of `--region_list`',
  params: { RegionName: list(str()), Filter: filters() },
  roles: 'all',
  run(_ctx, { RegionName, Filter }, { settings }) {
    const matches = matcher<ReturnType<typeof regions>[number]>(Filter, {
      'region-name': ({ regionName }) => regionName,
      endpoint: ({ regionEndpoint }) => regionEndpoint,
    });
    const known = regions(settings);
    const unknown = RegionName.find((name) => !known.some(({ regionName }) => regionName === name));
    if (unknown !== undefined) {
      throw new InvalidInput(`there is no region ${unknown}; there are ${known.map((r) => r.regionName).join(', ')}`);
    }
    const asked = known.filter((r) => (RegionName.length === 0 || RegionName.includes(r.regionName)) && matches(r));
    return Promise.resolve({
      regionInfo: asked.map((region): XmlObject => ({ ...region, optInStatus: 'opt-in-not-required' })),
    });
  },
});

/** Those of --region_list, or this cloud as the only one. Source: Nova 2011.3 nova/api/ec2/cloud.py */
function regions(settings: Ec2Deps['settings']): { regionName: string; regionEndpoint: string }[] {
  const { ec2_scheme, ec2_host, ec2_port, ec2_path, region_list } = settings;
  const items = region_list.length > 0 ? region_list : [`nova=${ec2_host}`];
  return items.map((item) => {
    const equals = item.indexOf('=');
    const [name, host] = equals < 0 ? [item, ec2_host] : [item.slice(0, equals), item.slice(equals + 1)];
    return { regionName: name, regionEndpoint: `${ec2_scheme}://${host}:${ec2_port}${ec2_path}` };
  });
}
