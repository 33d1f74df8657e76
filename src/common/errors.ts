/**
 * Every error that crosses a process or an API. Over the queue an error travels as `[class name, message, stack]`;
 * `rebuildError` makes the class again on the other side, so that `instanceof` works for the caller too.
 */
export class NovaError extends Error {
  /** Status for the HTTP APIs; each API renders it in its own error format (src/api/errors.ts). */
  readonly http_status: number = 500;
  /** Facts with numbers, for logs and events; never a secret. */
  details: Record<string, unknown> = {};
  constructor(message: string, options: { cause?: unknown; details?: Record<string, unknown> } = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = new.target.name;
    if (options.details) this.details = options.details;
  }
}

export class InvalidInput extends NovaError {
  override readonly http_status: number = 400;
}
/** The message names what was left out. */
export class MissingParameter extends InvalidInput {}
export class NotFound extends NovaError {
  override readonly http_status: number = 404;
}
export class Conflict extends NovaError {
  override readonly http_status: number = 409;
}
export class NotAuthorized extends NovaError {
  override readonly http_status: number = 403;
}
export class QuotaError extends NovaError {
  override readonly http_status: number = 413;
}
/** Something this host or another needs is away for now; the same request may succeed later. */
export class Unavailable extends NovaError {
  override readonly http_status: number = 503;
}

// What was asked for does not exist
export class InstanceNotFound extends NotFound {}
export class ImageNotFound extends NotFound {}
export class InstanceTypeNotFound extends NotFound {}
export class KeyPairNotFound extends NotFound {}
export class SecurityGroupNotFound extends NotFound {}
export class SecurityGroupRuleNotFound extends NotFound {}
export class NetworkNotFound extends NotFound {}
export class FixedIpNotFound extends NotFound {}
export class FloatingIpNotFound extends NotFound {}
export class VolumeNotFound extends NotFound {}
export class SnapshotNotFound extends NotFound {}
export class VolumeTypeNotFound extends NotFound {}
export class UserNotFound extends NotFound {}
export class ProjectNotFound extends NotFound {}
export class UserRoleNotFound extends NotFound {}
/** A role of --global_roles was to be given in one project. */
export class GlobalRoleNotAllowed extends NotFound {}
export class ServiceNotFound extends NotFound {}
export class HostNotFound extends NotFound {}
export class BucketNotFound extends NotFound {}
export class KeyNotFound extends NotFound {}

// It exists already, or is busy with something else
export class Duplicate extends Conflict {}
export class KeyPairExists extends Duplicate {}
export class UserExists extends Duplicate {}
export class ProjectExists extends Duplicate {}
export class InstanceTypeExists extends Duplicate {}
export class SecurityGroupExists extends Duplicate {}
export class SecurityGroupRuleExists extends Duplicate {}
export class NetworkExists extends Duplicate {}
export class FloatingIpExists extends Duplicate {}
/** It leads to an instance. */
export class FloatingIpInUse extends Conflict {}
/** Another state change won; `details` has the state found. */
export class InstanceBusy extends Conflict {}
/** Another state change won, or this state does not allow it. */
export class VolumeBusy extends Conflict {}
export class SnapshotBusy extends Conflict {}
/** An instance has it. */
export class VolumeInUse extends Conflict {}
/** No instance has it. */
export class VolumeNotAttached extends Conflict {}
/** The instance has another disk of that name. */
export class DeviceInUse extends Conflict {}
export class VolumeTypeExists extends Duplicate {}
export class NetworkInUse extends Conflict {}
export class SecurityGroupInUse extends Conflict {}
/** The same client token came with other parameters. */
export class IdempotentParameterMismatch extends Conflict {}
export class ImageNotActive extends InvalidInput {}
/** What this cloud is set up with cannot do it; the message names the flag. */
export class UnsupportedOperation extends InvalidInput {}

// The database
/** It is away for now; `details` has the reason and the operator's remedy. */
export class DatabaseUnavailable extends Unavailable {}
/** It cannot be used until somebody mends it. */
export class DatabaseUnusable extends DatabaseUnavailable {}

// The cloud has no more of it
export class InstanceLimitExceeded extends QuotaError {}
export class FloatingIpLimitExceeded extends QuotaError {}
/** In number or in gigabytes. */
export class VolumeLimitExceeded extends QuotaError {}
export class NoValidHost extends Unavailable {}
export class NoMoreAddresses extends Unavailable {}
export class NoMoreFloatingIps extends NoMoreAddresses {}
export class NoMoreNetworks extends Unavailable {}
/** No store has room for it. */
export class InsufficientVolumeCapacity extends Unavailable {}
/** A storage host exports as many volumes as --iscsi_num_targets allows. */
export class NoMoreTargets extends Unavailable {}

// Who are you
export class AuthFailure extends NotAuthorized {
  override readonly http_status: number = 401;
}
export class SignatureDoesNotMatch extends NotAuthorized {}
export class RequestExpired extends InvalidInput {}
export class PolicyNotAuthorized extends NotAuthorized {}

// Between processes
/** Nobody answered in time. */
export class RpcTimeout extends Unavailable {
  override readonly http_status: number = 504;
}
/** The broker, or the queue that was asked for, is not there. */
export class RpcUnavailable extends Unavailable {}
/** The other side raised a class that this process does not know. `exc_type`, `value` and `traceback` as Nova's RemoteError. */
export class RemoteError extends NovaError {
  readonly exc_type: string;
  readonly value: string;
  readonly traceback: string[];
  constructor(exc_type: string, value: string, traceback: string[]) {
    super(`${exc_type} ${value}`);
    this.exc_type = exc_type;
    this.value = value;
    this.traceback = traceback;
  }
}

// At start
/** A flag's value cannot be used; the message names the flag and, where known, the file and line. */
export class FlagsError extends InvalidInput {}
export class FlagMismatch extends NovaError {}
/** This host's clock and the database's are too far apart; the message has both times. */
export class ClockDiffers extends NovaError {}
export class ClassNotFound extends NovaError {}

// On a host
/** A command failed. `details`: command, exit_code, stderr (tail); of one that was killed after its time: command, timeout_ms. */
export class ProcessExecutionError extends NovaError {}
export class BackendUnavailable extends Unavailable {}
/** It does not answer at all, whatever it is asked. */
export class BackendAway extends BackendUnavailable {}
/** What the work needs is still being made. It is looked for again soon, for as long as who throws this says. */
export class NotYet extends Unavailable {}
/** The work was given up because its resource is being deleted or the daemon stops. */
export class Aborted extends NovaError {}

const CLASSES = new Map<string, new (message: string) => NovaError>(
  [
    NovaError,
    InvalidInput,
    MissingParameter,
    NotFound,
    Conflict,
    NotAuthorized,
    QuotaError,
    Unavailable,
    InstanceNotFound,
    ImageNotFound,
    InstanceTypeNotFound,
    KeyPairNotFound,
    SecurityGroupNotFound,
    SecurityGroupRuleNotFound,
    NetworkNotFound,
    FixedIpNotFound,
    FloatingIpNotFound,
    VolumeNotFound,
    SnapshotNotFound,
    VolumeTypeNotFound,
    UserNotFound,
    ProjectNotFound,
    UserRoleNotFound,
    GlobalRoleNotAllowed,
    ServiceNotFound,
    HostNotFound,
    BucketNotFound,
    KeyNotFound,
    Duplicate,
    KeyPairExists,
    UserExists,
    ProjectExists,
    InstanceTypeExists,
    SecurityGroupExists,
    SecurityGroupRuleExists,
    NetworkExists,
    FloatingIpExists,
    FloatingIpInUse,
    InstanceBusy,
    VolumeBusy,
    SnapshotBusy,
    VolumeInUse,
    VolumeNotAttached,
    DeviceInUse,
    VolumeTypeExists,
    NetworkInUse,
    SecurityGroupInUse,
    IdempotentParameterMismatch,
    ImageNotActive,
    UnsupportedOperation,
    DatabaseUnavailable,
    DatabaseUnusable,
    InstanceLimitExceeded,
    VolumeLimitExceeded,
    NoValidHost,
    NoMoreAddresses,
    NoMoreFloatingIps,
    NoMoreNetworks,
    InsufficientVolumeCapacity,
    NoMoreTargets,
    AuthFailure,
    SignatureDoesNotMatch,
    RequestExpired,
    PolicyNotAuthorized,
    RpcTimeout,
    RpcUnavailable,
    FlagsError,
    FlagMismatch,
    ClassNotFound,
    ProcessExecutionError,
    BackendUnavailable,
    BackendAway,
    NotYet,
    Aborted,
  ].map((c) => [c.name, c]),
);

/** The wire's `[class name, message, stack lines]` as an error of that class, or a RemoteError. */
export function rebuildError(failure: [string, string, string[]]): NovaError {
  const [name, message, traceback] = failure;
  const known = CLASSES.get(name);
  return known ? new known(message) : new RemoteError(name, message, traceback);
}

export const errorText = (err: unknown): string => (err instanceof Error ? err.message : String(err));

/** Whether whoever was asked did not answer: then what was asked for is not to blame. */
export const isAway = (err: unknown): boolean =>
  err instanceof RpcTimeout || err instanceof RpcUnavailable || err instanceof BackendAway;

/** Whether a retry of the same work may succeed: not for what the caller got wrong or what was given up. */
export function isRetryable(err: unknown): boolean {
  if (err instanceof Aborted) return false;
  return !(err instanceof NovaError) || err.http_status >= 500;
}
