/** Codes of the hypervisor's word on a guest. Source: Nova 2011.2 nova/compute/power_state.py; 0 to 6 are libvirt's. */
export const PowerState = {
  NOSTATE: 0,
  RUNNING: 1,
  BLOCKED: 2,
  PAUSED: 3,
  SHUTDOWN: 4,
  SHUTOFF: 5,
  CRASHED: 6,
  SUSPENDED: 7,
  FAILED: 8,
} as const;
export type PowerState = (typeof PowerState)[keyof typeof PowerState];
