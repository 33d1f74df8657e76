interface States {
  readonly vm_state: string;
  readonly task_state: string | null;
}

/** vm_state, and what a task makes of it. Source: Nova 2011.3 nova/api/openstack/common.py, _STATE_MAP */
const STATUS: Readonly<Record<string, string>> = {
  active: 'ACTIVE',
  building: 'BUILD',
  rebuilding: 'REBUILD',
  stopped: 'STOPPED',
  migrating: 'MIGRATING',
  resizing: 'RESIZE',
  paused: 'PAUSED',
  suspended: 'SUSPENDED',
  rescued: 'RESCUE',
  error: 'ERROR',
  deleted: 'DELETED',
};
const ACTIVE_TASKS: Readonly<Record<string, string>> = {
  rebooting: 'REBOOT',
  updating_password: 'PASSWORD',
  resize_verify: 'VERIFY_RESIZE',
};

export const SERVER_STATUSES: readonly string[] = [...Object.values(STATUS), ...Object.values(ACTIVE_TASKS)];

export function serverStatus({ vm_state, task_state }: States): string {
  const status = STATUS[vm_state] ?? 'UNKNOWN_STATE';
  return vm_state === 'active' && task_state !== null ? (ACTIVE_TASKS[task_state] ?? status) : status;
}

/** Source: Nova 2011.3 nova/image/glance.py and nova/api/openstack/views/images.py; `error` is ours, Nova's word was killed */
const IMAGE_STATUS: Readonly<Record<string, string>> = {
  active: 'ACTIVE',
  queued: 'SAVING',
  saving: 'SAVING',
  deleted: 'DELETED',
  pending_delete: 'DELETED',
  killed: 'ERROR',
  error: 'ERROR',
};
export const imageStatus = (status: string): string => IMAGE_STATUS[status] ?? 'UNKNOWN';
