import { InvalidInput } from '../../common/errors.ts';
import { action } from './deps.ts';
import { str } from './params.ts';

/** Nova's own, for administrators: ranges of addresses that no guest hears from. Source: Nova 2011.3 nova/api/ec2/admin.py. */
const range = { params: { Cidr: str({ max: 80 }) }, roles: 'superuser' } as const;

/** Nova's tools sent the range quoted once more: `192.0.2.0%2F24`. */
function unquoted(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new InvalidInput(`Cidr '${text}' is not a range of addresses such as 192.0.2.0/24`);
  }
}

export const blockExternalAddresses = action('BlockExternalAddresses', {
  about: 'Drops what comes from a range of addresses to any guest of any project, before its security groups are asked',
  ...range,
  async run(ctx, { Cidr }, { provider }) {
    return { status: 'OK', message: `Added ${await provider.block(ctx, unquoted(Cidr))} rules` };
  },
});

export const describeExternalAddressBlocks = action('DescribeExternalAddressBlocks', {
  about: 'The ranges of addresses that are blocked for all guests',
  params: {},
  roles: 'superuser',
  async run(_ctx, _params, { provider }) {
    return { externalIpBlockInfo: (await provider.blocks()).map((cidr) => ({ cidr })) };
  },
});

export const removeExternalAddressBlock = action('RemoveExternalAddressBlock', {
  about: 'Lets guests hear from a blocked range of addresses again, as their security groups say',
  ...range,
  async run(ctx, { Cidr }, { provider }) {
    return { status: 'OK', message: `Deleted ${await provider.unblock(ctx, unquoted(Cidr))} rules` };
  },
});
