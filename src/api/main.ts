import { DbAuthenticator } from '../common/auth/db_authenticator.ts';
import { DbTokens } from '../common/auth/tokens.ts';
import { serviceFlags } from '../common/core_flags.ts';
import { defineFlags, integer, list, string } from '../common/flags.ts';
import { runDaemon } from '../common/daemon.ts';
import { InvalidInput } from '../common/errors.ts';
import { listen, type Listening } from '../common/listen.ts';
import { rpcContract } from '../common/rpc/contract.ts';
import { Service, type Daemon, type Running } from '../common/service.ts';
import { ComputeApi } from '../compute/api.ts';
import { ProviderFirewallApi } from '../compute/provider_firewall_api.ts';
import { SecurityGroupApi } from '../compute/security_group_api.ts';
import { NetworkApi } from '../network/api.ts';
import { ImageApi } from '../objectstore/api.ts';
import { VolumeApi } from '../volume/api.ts';
import { AnswerCache, CACHE_BYTES } from './answer_cache.ts';
import { ec2Actions } from './ec2/actions.ts';
import { ec2Deps } from './ec2/deps.ts';
import { ec2Server } from './ec2/server.ts';
import { identityServer } from './identity/app.ts';
import { identityFlags } from './identity/catalog.ts';
import { metadataFlags, metadataHandler } from './metadata/app.ts';
import { metadataServer } from './metadata/server.ts';
import { openstackServer } from './openstack/app.ts';
import { forwardedFlags } from './remote_address.ts';

export const apiFlags = defineFlags({
  enabled_apis: list(['ec2', 'osapi', 'identity', 'metadata'], 'APIs that nova-api offers'),
  ec2_listen: string('0.0.0.0', 'Address that the EC2 API listens on'),
  ec2_listen_port: integer(8773, 'Port that the EC2 API listens on', { min: 0, max: 65535 }),
  osapi_listen: string('0.0.0.0', 'Address that the OpenStack API listens on'),
  osapi_listen_port: integer(8774, 'Port that the OpenStack API listens on', { min: 0, max: 65535 }),
});

/** nova-api takes no messages; its row says that it lives and with which flags. */
const apiContract = rpcContract<Record<never, never>>('api', {});
const noManager = { initHost: async () => undefined, periodicTasks: async () => undefined };

/** The HTTP faces, each on its own port, over one ComputeApi. */
export async function start(daemon: Daemon): Promise<Running> {
  const { flags, log } = daemon;
  const settings = flags.read(apiFlags);
  const grace_ms = flags.read(serviceFlags).graceful_stop_timeout * 1000;
  const compute = new ComputeApi(daemon);
  const tokens = new DbTokens(daemon); // one: what one API revokes, no other takes
  const service = await Service.start({
    ...daemon,
    binary: 'nova-api',
    contract: apiContract,
    manager: noManager,
    agree: ['network_manager', 'instance_name_template'],
  });
  const listening: Listening[] = [];
  const stop = async () => {
    await Promise.all(listening.map((server) => server.close(grace_ms)));
    await service.stop();
  };
  try {
    for (const name of settings.enabled_apis) listening.push(await startApi(name, daemon, { compute, tokens }));
  } catch (err) {
    await stop();
    throw err;
  }
  log.info({ apis: settings.enabled_apis, ports: listening.map(({ port }) => port) }, 'serving');
  return { stop };
}

interface Shared {
  compute: ComputeApi;
  tokens: DbTokens;
}

function startApi(name: string, daemon: Daemon, { compute, tokens }: Shared): Promise<Listening> {
  const { db, bus, flags, log } = daemon;
  const settings = flags.read(apiFlags);
  const images = new ImageApi({ db, bus });
  const groups = new SecurityGroupApi({ db, flags, bus, log });
  const network = new NetworkApi({ db, flags, bus });
  const volumes = new VolumeApi({ db, flags, bus });
  switch (name) {
    case 'ec2': {
      const server = ec2Server({
        actions: ec2Actions,
        deps: ec2Deps({
          db,
          flags,
          compute,
          images,
          groups,
          network,
          volumes,
          provider: new ProviderFirewallApi({ db, bus, log }),
        }),
        authenticator: new DbAuthenticator({ db, flags }),
        log,
        cache: new AnswerCache(db, CACHE_BYTES),
        use_forwarded_for: flags.read(forwardedFlags).use_forwarded_for,
        metadata: metadataHandler({ db, flags, log }),
      });
      return listen(server, settings.ec2_listen, settings.ec2_listen_port, 'ec2_listen_port', log);
    }
    case 'osapi': {
      const server = openstackServer({ db, flags, log, compute, images, groups, network, volumes, tokens });
      return listen(server, settings.osapi_listen, settings.osapi_listen_port, 'osapi_listen_port', log);
    }
    case 'identity': {
      const { identity_listen, identity_listen_port } = flags.read(identityFlags);
      const server = identityServer({ db, flags, log, tokens });
      return listen(server, identity_listen, identity_listen_port, 'identity_listen_port', log);
    }
    case 'metadata': {
      const { metadata_listen, metadata_port } = flags.read(metadataFlags);
      return listen(metadataServer({ db, flags, log }), metadata_listen, metadata_port, 'metadata_port', log);
    }
    default:
      throw new InvalidInput(`--enabled_apis=${name}: not an API; known are ec2, osapi, identity, metadata`);
  }
}

export const main = (): Promise<void> => runDaemon('nova-api', start);
