import { defineFlags, string, type Flags } from './flags.ts';

export const vpnImageFlags = defineFlags({
  vpn_image_id: string('ami-cloudpipe', "Image of projects' VPN instances (cloudpipe): ami-0000000a, or its number"),
});

/** The image whose instances get the VPN address of their project's network, or null when the flag names none. */
export function vpnImageId(flags: Flags): number | null {
  const { vpn_image_id } = flags.read(vpnImageFlags);
  const hex = /^ami-([0-9a-f]{8})$/i.exec(vpn_image_id)?.[1];
  if (hex !== undefined) return parseInt(hex, 16);
  return /^[1-9]\d{0,9}$/.test(vpn_image_id) ? Number(vpn_image_id) : null;
}
