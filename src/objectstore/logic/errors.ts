import { NovaError } from '../../common/errors.ts';

/** S3's error codes and the status each is sent with. Source: AWS S3 API, "Error responses"; 403 for buckets: Nova 2011.2. */
const STATUS = {
  AccessDenied: 403,
  BadDigest: 400,
  BucketAlreadyExists: 403,
  BucketAlreadyOwnedByYou: 403,
  BucketNotEmpty: 403,
  EntityTooLarge: 400,
  IncompleteBody: 400,
  InsufficientStorage: 507,
  InternalError: 500,
  InvalidAccessKeyId: 403,
  InvalidArgument: 400,
  InvalidBucketName: 400,
  InvalidDigest: 400,
  InvalidPart: 400,
  InvalidPartOrder: 400,
  InvalidRange: 416,
  InvalidRequest: 400,
  InvalidURI: 400,
  KeyTooLongError: 400,
  MalformedXML: 400,
  MetadataTooLarge: 400,
  MethodNotAllowed: 405,
  NoSuchBucket: 404,
  NoSuchKey: 404,
  NoSuchUpload: 404,
  NotImplemented: 501,
  PreconditionFailed: 412,
  RequestHeaderSectionTooLarge: 431,
  RequestTimeTooSkewed: 403,
  RequestTimeout: 408,
  ServiceUnavailable: 503,
  SignatureDoesNotMatch: 403,
  XAmzContentSHA256Mismatch: 400,
} as const;
export type S3Code = keyof typeof STATUS;

/** An answer in S3's own words; never leaves this daemon in another form. */
export class S3Error extends NovaError {
  readonly code: S3Code;
  override readonly http_status: number;
  constructor(code: S3Code, message: string, options: { cause?: unknown; details?: Record<string, unknown> } = {}) {
    super(message, options);
    this.code = code;
    this.http_status = STATUS[code];
  }
}

export const noSuchBucket = (bucket: string): S3Error => new S3Error('NoSuchBucket', `There is no bucket ${bucket}.`);
export const noSuchKey = (bucket: string, key: string): S3Error =>
  new S3Error('NoSuchKey', `Bucket ${bucket} has no object ${key}.`);

export const errnoOf = (err: unknown): string | undefined => (err as { code?: string }).code;

/** What the disk said, in S3's words. */
export function fromDisk(err: unknown): S3Error | undefined {
  const code = errnoOf(err);
  if (code === 'ENOSPC' || code === 'EDQUOT')
    return new S3Error('InsufficientStorage', 'The object store has no space left on its disk.', { cause: err });
  if (code === 'EMFILE' || code === 'ENFILE')
    return new S3Error('ServiceUnavailable', 'The object store has too many files open; try again.', { cause: err });
  return undefined;
}
