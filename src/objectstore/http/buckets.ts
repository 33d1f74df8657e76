import { readAll } from './body.ts';
import { checkAcl } from './objects.ts';
import { isAllowed, queryNumber, sendEmpty, sendHead, sendXml, XML_TYPE, quoted, type S3Call } from './call.ts';
import { S3Error } from '../logic/errors.ts';
import { listPage, type ListPage, type ListQuery } from '../logic/list.ts';
import { elements, openDocument, type XmlElements } from '../logic/xml.ts';

/** Source: Nova 2011.2. AWS and version 2 of the listing: 1000. */
const MAX_KEYS_V1 = 50_000;
const MAX_KEYS_V2 = 1000;
/** Entries of a listing made and sent before other requests get their turn. */
const BATCH = 200;
const CREATE_BODY_BYTES = 64 * 1024;

const ownerElements = (project_id: string | null): XmlElements => ({
  ID: project_id ?? '',
  DisplayName: project_id ?? '',
});

export async function listBuckets(call: S3Call): Promise<void> {
  const buckets = (await call.store.buckets.list()).filter((bucket) => isAllowed(call.caller, bucket));
  sendXml(call, 'ListAllMyBucketsResult', {
    Owner: ownerElements(call.caller.project_id),
    Buckets: {
      Bucket: buckets.map(({ name, created_at }) => ({ Name: name, CreationDate: wholeSeconds(created_at) })),
    },
  });
}

/** As Nova: `2011-04-15T00:00:00.000Z`. */
const wholeSeconds = (iso: string): string => `${iso.slice(0, 19)}.000Z`;

export async function createBucket(call: S3Call): Promise<void> {
  checkAcl(call);
  await readAll(call, CREATE_BODY_BYTES); // a LocationConstraint: there is one location
  const { project_id, project_created_at, user_id } = call.caller;
  await call.store.buckets.create(call.bucket, { project_id, project_created_at, user_id });
  sendEmpty(call, 200, { Location: `/${call.bucket}` });
}

export async function headBucket(call: S3Call): Promise<void> {
  sendEmpty(call, 200);
}

export async function deleteBucket(call: S3Call): Promise<void> {
  await call.store.buckets.remove(call.bucket);
  sendEmpty(call, 204);
}

export async function getBucketLocation(call: S3Call): Promise<void> {
  sendXml(call, 'LocationConstraint', {});
}

/** Never switched on: there are no versions. */
export async function getBucketVersioning(call: S3Call): Promise<void> {
  sendXml(call, 'VersioningConfiguration', {});
}

/** What is true of every bucket and object: its project may do everything, others nothing. */
export async function getAcl(call: S3Call): Promise<void> {
  const owner = call.store.buckets.owner(call.bucket);
  if (call.key !== '') call.store.objects.info(call.bucket, call.key);
  sendXml(call, 'AccessControlPolicy', {
    Owner: ownerElements(owner.project_id),
    AccessControlList: { Grant: [{ Grantee: ownerElements(owner.project_id), Permission: 'FULL_CONTROL' }] },
  });
}

/** Objects have no tags; AWS's clients ask before they copy. */
export async function getObjectTagging(call: S3Call): Promise<void> {
  call.store.objects.info(call.bucket, call.key);
  sendXml(call, 'Tagging', { TagSet: {} });
}

export async function listObjects(call: S3Call): Promise<void> {
  const { query } = call;
  const q: ListQuery = {
    prefix: query.get('prefix') ?? '',
    delimiter: query.get('delimiter') ?? '',
    after: query.get('marker') ?? '',
    max_keys: queryNumber(call, 'max-keys', MAX_KEYS_V1, MAX_KEYS_V1),
  };
  const page = listPage(await call.store.buckets.keys(call.bucket), q);
  const name = namer(call);
  await sendListing(call, page, {
    Name: call.bucket,
    Prefix: name(q.prefix),
    Marker: name(q.after),
    NextMarker: page.next === null ? null : name(page.next),
    MaxKeys: q.max_keys,
    Delimiter: q.delimiter === '' ? null : name(q.delimiter),
    EncodingType: query.get('encoding-type') ?? null,
    IsTruncated: page.next !== null,
  });
}

export async function listObjectsV2(call: S3Call): Promise<void> {
  const { query } = call;
  const token = query.get('continuation-token');
  const start_after = query.get('start-after') ?? '';
  const q: ListQuery = {
    prefix: query.get('prefix') ?? '',
    delimiter: query.get('delimiter') ?? '',
    after: token === undefined ? start_after : Buffer.from(token, 'base64url').toString('utf8'),
    max_keys: queryNumber(call, 'max-keys', MAX_KEYS_V2, MAX_KEYS_V2),
  };
  if (token === '') throw new S3Error('InvalidArgument', 'The continuation-token is empty.');
  const page = listPage(await call.store.buckets.keys(call.bucket), q);
  const name = namer(call);
  await sendListing(call, page, {
    Name: call.bucket,
    Prefix: name(q.prefix),
    StartAfter: start_after === '' ? null : name(start_after),
    ContinuationToken: token,
    NextContinuationToken: page.next === null ? null : Buffer.from(page.next, 'utf8').toString('base64url'),
    KeyCount: page.keys.length + page.common_prefixes.length,
    MaxKeys: q.max_keys,
    Delimiter: q.delimiter === '' ? null : name(q.delimiter),
    EncodingType: query.get('encoding-type') ?? null,
    IsTruncated: page.next !== null,
  });
}

/** How keys are spelt in the answer. @throws S3Error InvalidArgument */
export function namer(call: S3Call): (key: string) => string {
  const encoding = call.query.get('encoding-type');
  if (encoding === undefined) return (key) => key;
  if (encoding !== 'url') throw new S3Error('InvalidArgument', 'encoding-type can only be url.');
  return (key) => key.split('/').map(encodeURIComponent).join('/');
}

/** Streams, so that a page of 50,000 keys neither stands in memory nor holds up other requests. */
async function sendListing(call: S3Call, page: ListPage, head: XmlElements): Promise<void> {
  const { res } = call;
  const name = namer(call);
  const brief = (call.query.get('terse') ?? '0') !== '0';
  const root = 'ListBucketResult';
  sendHead(call, 200, { 'Content-Type': XML_TYPE });
  let text = openDocument(root) + elements(head);
  for (let i = 0; i < page.keys.length; i += BATCH) {
    for (const key of page.keys.slice(i, i + BATCH))
      text += brief ? elements({ Contents: { Key: name(key) } }) : contents(call, key, name);
    if (!res.write(text)) await drained(call);
    if (res.destroyed) return;
    text = '';
    await new Promise(setImmediate);
  }
  text += elements({ CommonPrefixes: page.common_prefixes.map((prefix) => ({ Prefix: name(prefix) })) });
  res.end(`${text}</${root}>`);
}

async function drained({ res }: S3Call): Promise<void> {
  if (res.destroyed) return;
  await new Promise<void>((resolve) => {
    const done = () => {
      res.off('drain', done).off('close', done);
      resolve();
    };
    res.on('drain', done).on('close', done);
  });
}

/** Nothing for an object that was deleted since its key was read. */
function contents(call: S3Call, key: string, name: (key: string) => string): string {
  try {
    const info = call.store.objects.info(call.bucket, key);
    return elements({
      Contents: {
        Key: name(key),
        LastModified: info.modified.toISOString(),
        ETag: quoted(info.etag),
        Size: info.size,
        StorageClass: 'STANDARD',
      },
    });
  } catch (err) {
    if (err instanceof S3Error && err.code === 'NoSuchKey') return '';
    throw err;
  }
}
