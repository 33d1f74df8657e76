/**
 * Name of the host's end of a guest's network card, for the hypervisor and for the firewall alike. At most 15
 * characters, the kernel's limit, for ids up to 2^32 and ten cards.
 */
export const tapName = (instance_id: number, index: number): string => `nova${instance_id.toString(16)}-${index}`;
/** All of them, as iptables and ebtables match interfaces; nothing else on a compute host may be called so. */
export const ANY_TAP = 'nova+';
