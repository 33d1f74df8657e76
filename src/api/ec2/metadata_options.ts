import type { MetadataOptions } from '../../common/db/instance_updates.ts';
import { action } from './deps.ts';
import { formatId } from './ids.ts';
import { viewMetadataOptions } from './instance_view.ts';
import { instanceId, int, optional, word, type Values } from './params.ts';

/** Of these the first two are in force; the others are taken as far as they ask for what is so anyway. */
export const metadataOptionParams = {
  HttpTokens: optional(word(['optional', 'required'])),
  HttpEndpoint: optional(word(['enabled', 'disabled'])),
  /** A guest's packets take one hop here, whatever this says. */
  HttpPutResponseHopLimit: optional(int({ min: 1, max: 64 })),
  HttpProtocolIpv6: optional(word(['disabled'])),
  InstanceMetadataTags: optional(word(['disabled'])),
};

export const metadataOptionsOf = ({
  HttpTokens,
  HttpEndpoint,
}: Partial<Values<typeof metadataOptionParams>>): MetadataOptions => ({
  ...(HttpTokens === undefined ? {} : { http_tokens: HttpTokens }),
  ...(HttpEndpoint === undefined ? {} : { http_endpoint: HttpEndpoint }),
});

export const modifyInstanceMetadataOptions = action('ModifyInstanceMetadataOptions', {
  about: 'Whether the metadata service answers an instance, and whether only with a session token; in force at once',
  params: { InstanceId: instanceId(), ...metadataOptionParams },
  roles: ['projectmanager', 'sysadmin'],
  async run(ctx, { InstanceId, ...asked }, { compute, settings }) {
    const instance = await compute.modifyMetadataOptions(ctx, InstanceId, metadataOptionsOf(asked));
    return {
      instanceId: formatId('i', instance.id),
      instanceMetadataOptions: viewMetadataOptions(instance, settings),
    };
  },
});
