import { S3Error } from '../logic/errors.ts';
import {
  createBucket,
  deleteBucket,
  getAcl,
  getBucketLocation,
  getBucketVersioning,
  getObjectTagging,
  headBucket,
  listBuckets,
  listObjects,
  listObjectsV2,
} from './buckets.ts';
import type { S3Call } from './call.ts';
import { copyObject, deleteObject, deleteObjects, getObject, headObject, putObject } from './objects.ts';
import {
  abortMultipartUpload,
  completeMultipartUpload,
  createMultipartUpload,
  listMultipartUploads,
  listParts,
  uploadPart,
  uploadPartCopy,
} from './uploads.ts';

export interface Operation {
  /** AWS's name. */
  name: string;
  run: (call: S3Call) => Promise<void>;
  /** The bucket need not be there yet. */
  makes_bucket?: boolean;
}

/** `PLACE METHOD [QUERY]`: all that is offered. QUERY is the parameter that makes it another operation. */
const OPERATIONS = new Map<string, Operation>([
  ['service GET', { name: 'ListBuckets', run: listBuckets }],
  ['bucket PUT', { name: 'CreateBucket', run: createBucket, makes_bucket: true }],
  ['bucket HEAD', { name: 'HeadBucket', run: headBucket }],
  ['bucket DELETE', { name: 'DeleteBucket', run: deleteBucket }],
  ['bucket GET', { name: 'ListObjects', run: listObjects }],
  ['bucket GET list-type', { name: 'ListObjectsV2', run: listObjectsV2 }],
  ['bucket GET location', { name: 'GetBucketLocation', run: getBucketLocation }],
  ['bucket GET versioning', { name: 'GetBucketVersioning', run: getBucketVersioning }],
  ['bucket GET acl', { name: 'GetBucketAcl', run: getAcl }],
  ['bucket GET uploads', { name: 'ListMultipartUploads', run: listMultipartUploads }],
  ['bucket POST delete', { name: 'DeleteObjects', run: deleteObjects }],
  ['object GET', { name: 'GetObject', run: getObject }],
  ['object HEAD', { name: 'HeadObject', run: headObject }],
  ['object PUT', { name: 'PutObject', run: putObject }],
  ['object PUT copy', { name: 'CopyObject', run: copyObject }],
  ['object DELETE', { name: 'DeleteObject', run: deleteObject }],
  ['object GET acl', { name: 'GetObjectAcl', run: getAcl }],
  ['object GET tagging', { name: 'GetObjectTagging', run: getObjectTagging }],
  ['object POST uploads', { name: 'CreateMultipartUpload', run: createMultipartUpload }],
  ['object PUT uploadId', { name: 'UploadPart', run: uploadPart }],
  ['object PUT uploadId copy', { name: 'UploadPartCopy', run: uploadPartCopy }],
  ['object POST uploadId', { name: 'CompleteMultipartUpload', run: completeMultipartUpload }],
  ['object DELETE uploadId', { name: 'AbortMultipartUpload', run: abortMultipartUpload }],
  ['object GET uploadId', { name: 'ListParts', run: listParts }],
]);

/** Parameters of AWS that name another operation than the bare path does, offered here or not. */
const SUBRESOURCES = new Set(
  (
    'accelerate acl analytics attributes cors delete encryption intelligent-tiering inventory legal-hold lifecycle ' +
    'list-type location logging metrics notification object-lock ownershipControls policy policyStatus ' +
    'publicAccessBlock replication requestPayment restore retention select tagging torrent uploadId uploads ' +
    'versionId versioning versions website'
  ).split(' '),
);

const METHODS = ['GET', 'HEAD', 'PUT', 'POST', 'DELETE'];

/** @throws S3Error NotImplemented, MethodNotAllowed */
export function findOperation(
  method: string,
  place: 'service' | 'bucket' | 'object',
  query: ReadonlyMap<string, string>,
  is_copy: boolean,
): Operation {
  let name = `${place} ${method}`;
  if (query.size > 0) for (const parameter of query.keys()) if (SUBRESOURCES.has(parameter)) name += ` ${parameter}`;
  if (is_copy) name += ' copy';
  const operation = OPERATIONS.get(name);
  if (operation) return operation;
  if (!METHODS.includes(method) || !name.includes(' ', place.length + 1 + method.length))
    throw new S3Error('MethodNotAllowed', `${method} is not offered for a ${place}.`);
  throw new S3Error('NotImplemented', `${name.slice(place.length + 1)} of a ${place} is not offered by this store.`);
}
