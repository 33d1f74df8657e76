import { needing, type Host } from '../../common/linux/host.ts';

/** What a host itself learns from the advertisements of IPv6 routers. */

const acceptRa = async (host: Host, name: string, signal: AbortSignal): Promise<string> =>
  (await host.run(['sysctl', '-n', `net/ipv6/conf/${name}/accept_ra`], { signal })).stdout.trim();

const acceptAlways = (host: Host, name: string, signal: AbortSignal): Promise<unknown> =>
  needing(
    `having ${name} hear IPv6 routers`,
    host.run(['sysctl', '-q', '-w', `net/ipv6/conf/${name}/accept_ra=2`], { signal }),
  );

/**
 * Before the host forwards: the kernel then drops its own way out where a router advertised that, and hears no more of it,
 * unless the interface's `accept_ra` is 2.
 */
export async function keepAdvertisedRoutes(host: Host, signal: AbortSignal): Promise<void> {
  const show = ['ip', '-j', '-6', 'route', 'show', 'default', 'proto', 'ra'];
  const routes = ((await host.ask(show, signal)) as { dev?: string }[] | null) ?? [];
  for (const name of new Set(routes.flatMap(({ dev }) => dev ?? [])))
    if ((await acceptRa(host, name, signal)) === '1') await acceptAlways(host, name, signal);
}

/** A bridge that takes an interface's place hears routers where the interface did. */
export async function hearAs(host: Host, port: string, bridge: string, signal: AbortSignal): Promise<void> {
  if ((await acceptRa(host, port, signal)) === '2' && (await acceptRa(host, bridge, signal)) !== '2')
    await acceptAlways(host, bridge, signal);
}
