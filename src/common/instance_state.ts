/**
 * States of an instance: `vm_state` is what it is, `task_state` what is being done to it. Source: Nova 2011.3
 * nova/compute/vm_states.py and task_states.py.
 *
 *   building/scheduling ──scheduler──> building/networking ──compute──> building/spawning ──> active
 *        │ no host fits                     │ attempts used up                                 │ └─rebooting─┘
 *        └────────────> error <─────────────┘                                                  │
 *   from every state: (any)/deleting ──compute──> deleted (the row is no longer live)
 *
 * Every task_state has an owner, a deadline and a next action; the sweep in nova-scheduler enforces them.
 */
/** `stopped`: its guest is off; a reboot starts it. */
export const VM_STATES = ['building', 'active', 'stopped', 'error', 'deleted'] as const;
export type VmState = (typeof VM_STATES)[number];
export type TaskState = 'scheduling' | 'networking' | 'spawning' | 'rebooting' | 'deleting';

export interface TaskRule {
  /** Who is at work. */
  owner: 'scheduler' | 'compute';
  /** Seconds until the sweep looks. */
  deadline_s: number;
  /** Wire name of the job that does it, which the sweep casts again when there is none. */
  job: 'run_instance' | 'reboot_instance' | 'terminate_instance';
  /**
   * When the deadline passed and the job cannot go on because its host is down: put the instance in `error`, leave it what
   * it was before, or finish the deletion without the host, which takes the guest away when it returns.
   */
  host_down: 'error' | 'as_before' | 'deleted';
}
export const TASKS: Record<TaskState, TaskRule> = {
  scheduling: { owner: 'scheduler', deadline_s: 120, job: 'run_instance', host_down: 'error' },
  networking: { owner: 'compute', deadline_s: 300, job: 'run_instance', host_down: 'error' },
  spawning: { owner: 'compute', deadline_s: 900, job: 'run_instance', host_down: 'error' },
  rebooting: { owner: 'compute', deadline_s: 300, job: 'reboot_instance', host_down: 'as_before' },
  deleting: { owner: 'compute', deadline_s: 300, job: 'terminate_instance', host_down: 'deleted' },
};

export interface StateRow {
  vm_state: string;
  task_state: string | null;
}

/** Its guest never came to be: `error` is where launches end that fail, and nothing else. */
export const launchFailed = ({ vm_state }: Pick<StateRow, 'vm_state'>): boolean => vm_state === 'error';

/** Why this cannot be rebooted now, or undefined when it can. */
export function whyNoReboot({ vm_state, task_state }: StateRow): string | undefined {
  if (task_state === 'deleting') return 'it is being deleted';
  if (vm_state !== 'active' && vm_state !== 'stopped')
    return `it is ${vm_state}; only an active or stopped one can be rebooted`;
  if (task_state !== null) return `it is busy ${task_state}`;
  return undefined;
}
