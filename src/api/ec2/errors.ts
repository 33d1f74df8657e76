import * as nova from '../../common/errors.ts';

/** The request is no form of names and values. */
export class MalformedQueryString extends nova.InvalidInput {}
export class InvalidAction extends nova.InvalidInput {}
export class UnsupportedHttpVerb extends nova.NovaError {
  override readonly http_status: number = 405;
}
/** No API is at this path. */
export class NoSuchEndpoint extends nova.NovaError {
  override readonly http_status: number = 404;
}
/** All is well, and nothing was done: the caller said DryRun. AWS's answer is this error. */
export class DryRunOperation extends nova.NovaError {
  override readonly http_status: number = 412;
}

export interface Ec2Error {
  code: string;
  status: number;
  message: string;
}

/**
 * Class to AWS's code (clients branch on these) and status. The nearest class up the chain decides; one that is not
 * here goes by its own name, as Nova did. Nova's statuses: 400, but 401 and 403 for who may not.
 */
const CODES = new Map<unknown, readonly [code: string, status: number]>([
  [nova.InstanceNotFound, ['InvalidInstanceID.NotFound', 400]],
  [nova.ImageNotFound, ['InvalidAMIID.NotFound', 400]],
  [nova.InstanceTypeNotFound, ['InvalidParameterValue', 400]],
  [nova.KeyPairNotFound, ['InvalidKeyPair.NotFound', 400]],
  [nova.SecurityGroupNotFound, ['InvalidGroup.NotFound', 400]],
  [nova.SecurityGroupRuleNotFound, ['InvalidPermission.NotFound', 400]],
  [nova.NetworkNotFound, ['InvalidSubnetID.NotFound', 400]],
  [nova.FixedIpNotFound, ['InvalidAddress.NotFound', 400]],
  [nova.FloatingIpNotFound, ['InvalidAddress.NotFound', 400]],
  [nova.VolumeNotFound, ['InvalidVolume.NotFound', 400]],
  [nova.SnapshotNotFound, ['InvalidSnapshot.NotFound', 400]],
  [nova.VolumeTypeNotFound, ['UnknownVolumeType', 400]],
  [nova.NotFound, ['InvalidParameterValue', 400]],
  [nova.FloatingIpInUse, ['InvalidIPAddress.InUse', 400]],
  [nova.KeyPairExists, ['InvalidKeyPair.Duplicate', 400]],
  [nova.SecurityGroupExists, ['InvalidGroup.Duplicate', 400]],
  [nova.SecurityGroupRuleExists, ['InvalidPermission.Duplicate', 400]],
  [nova.SecurityGroupInUse, ['InvalidGroup.InUse', 400]],
  [nova.InstanceBusy, ['IncorrectInstanceState', 400]],
  [nova.VolumeInUse, ['VolumeInUse', 400]],
  [nova.DeviceInUse, ['InvalidParameterValue', 400]],
  [nova.IdempotentParameterMismatch, ['IdempotentParameterMismatch', 400]],
  [nova.Conflict, ['IncorrectState', 400]],
  [nova.ImageNotActive, ['InvalidAMIID.Unavailable', 400]],
  [nova.MissingParameter, ['MissingParameter', 400]],
  [nova.RequestExpired, ['RequestExpired', 400]],
  [MalformedQueryString, ['MalformedQueryString', 400]],
  [InvalidAction, ['InvalidAction', 400]],
  [nova.UnsupportedOperation, ['UnsupportedOperation', 400]],
  [nova.InvalidInput, ['InvalidParameterValue', 400]],
  [nova.InstanceLimitExceeded, ['InstanceLimitExceeded', 400]],
  [nova.FloatingIpLimitExceeded, ['AddressLimitExceeded', 400]],
  [nova.VolumeLimitExceeded, ['VolumeLimitExceeded', 400]],
  [nova.QuotaError, ['ResourceLimitExceeded', 400]],
  [nova.NoValidHost, ['InsufficientInstanceCapacity', 400]],
  [nova.InsufficientVolumeCapacity, ['InsufficientVolumeCapacity', 400]],
  [nova.NoMoreAddresses, ['InsufficientAddressCapacity', 400]],
  [nova.NoMoreNetworks, ['InsufficientCapacity', 400]],
  [nova.AuthFailure, ['AuthFailure', 403]],
  [nova.SignatureDoesNotMatch, ['SignatureDoesNotMatch', 403]],
  [nova.PolicyNotAuthorized, ['UnauthorizedOperation', 401]],
  [nova.NotAuthorized, ['UnauthorizedOperation', 403]],
  [nova.Unavailable, ['Unavailable', 503]],
  [nova.Aborted, ['Unavailable', 503]],
]);

/** What the client is told. A bug is told by its request id alone: the rest is in the log. */
export function ec2Error(err: unknown): Ec2Error {
  if (err instanceof nova.NovaError) {
    for (let type: unknown = err.constructor; type !== nova.NovaError; type = Object.getPrototypeOf(type)) {
      const known = CODES.get(type);
      if (known) return { code: known[0], status: known[1], message: err.message };
    }
    if (err.http_status < 500) return { code: err.name, status: err.http_status, message: err.message };
  }
  return {
    code: 'InternalError',
    status: 500,
    message: 'this server failed, which is a fault of its own; its log names the cause beside this request id',
  };
}
