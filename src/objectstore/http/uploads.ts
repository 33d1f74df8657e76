import { createReadStream } from 'node:fs';
import { S3Error } from '../logic/errors.ts';
import { parseRange } from '../logic/ranges.ts';
import { checkConditions } from '../logic/conditions.ts';
import { MOST_PARTS } from '../drivers/uploads.ts';
import { children, childText, readXml, requestBody } from './body.ts';
import { namer } from './buckets.ts';
import {
  conditionsOf,
  header,
  queryNumber,
  quoted,
  sendEmpty,
  sendHead,
  sendXml,
  XML_TYPE,
  type S3Call,
} from './call.ts';
import { attributesOf, copySource } from './objects.ts';
import { document, errorDocument } from '../logic/xml.ts';

const COMPLETE_BODY_BYTES = 4 * 1024 * 1024;
const PAGE = 1000;
/** Clients give up after a minute of silence; putting many parts together may take longer. */
const SIGN_OF_LIFE_MS = 5000;

const uploadId = (call: S3Call): string => call.query.get('uploadId') ?? '';

export async function createMultipartUpload(call: S3Call): Promise<void> {
  const upload_id = await call.store.uploads.create(call.bucket, call.key, call.caller.user_id, attributesOf(call));
  sendXml(call, 'InitiateMultipartUploadResult', { Bucket: call.bucket, Key: call.key, UploadId: upload_id });
}

/** @throws S3Error InvalidArgument */
function partNumber(text: string | undefined): number {
  const number = /^\d{1,5}$/.test(text ?? '') ? Number(text) : 0;
  if (number >= 1 && number <= MOST_PARTS) return number;
  throw new S3Error(
    'InvalidArgument',
    `The part number ${String(text).slice(0, 20)} is not a number from 1 to ${MOST_PARTS}.`,
  );
}

export async function uploadPart(call: S3Call): Promise<void> {
  const number = partNumber(call.query.get('partNumber'));
  call.store.uploads.get(call.bucket, call.key, uploadId(call));
  const { chunks, check, sums } = requestBody(call);
  const etag = await call.store.uploads.putPart(call.bucket, uploadId(call), number, chunks, check);
  sendEmpty(call, 200, { ETag: quoted(etag), ...sums });
}

export async function uploadPartCopy(call: S3Call): Promise<void> {
  const number = partNumber(call.query.get('partNumber'));
  call.store.uploads.get(call.bucket, call.key, uploadId(call));
  const from = copySource(call);
  const object = call.store.objects.open(from.bucket, from.key, (info) => {
    if (checkConditions(conditionsOf(call, 'x-amz-copy-source-'), info) === 'ok') return true;
    throw new S3Error('PreconditionFailed', `The source ${from.key} is not in the state that the request asked for.`);
  });
  if (object === null) return;
  const said = header(call, 'x-amz-copy-source-range');
  const range = parseRange(said, object.info.size);
  const { start, end } = range === null || range === 'none' ? { start: 0, end: object.info.size - 1 } : range;
  const chunks =
    'bytes' in object ? [object.bytes.subarray(start, end + 1)] : createReadStream('', { fd: object.fd, start, end });
  const etag = await call.store.uploads.putPart(call.bucket, uploadId(call), number, asIterable(chunks), () => {
    if (said !== undefined && (range === null || range === 'none'))
      throw new S3Error('InvalidArgument', `${said} is no range of the source's ${object.info.size} bytes.`);
  });
  sendXml(call, 'CopyPartResult', { LastModified: new Date().toISOString(), ETag: quoted(etag) });
}

async function* asIterable(chunks: Iterable<Buffer> | AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  yield* chunks;
}

export async function completeMultipartUpload(call: S3Call): Promise<void> {
  const wanted = children(await readXml(call, 'CompleteMultipartUpload', COMPLETE_BODY_BYTES), 'Part');
  if (wanted.length > MOST_PARTS) throw new S3Error('MalformedXML', `An upload has at most ${MOST_PARTS} parts.`);
  const parts = wanted.map((part) => ({
    number: partNumber(childText(part, 'PartNumber') ?? undefined),
    etag: (childText(part, 'ETag') ?? '').replaceAll('"', '').trim().toLowerCase(),
  }));
  const { bucket, key, res } = call;
  const completing = call.store.uploads.complete(bucket, key, uploadId(call), parts, conditionsOf(call));
  const alive = setInterval(() => {
    // As AWS does: the status is gone by then, so a failure is told in the body.
    if (!res.headersSent) sendHead(call, 200, { 'Content-Type': XML_TYPE });
    res.write(' ');
  }, SIGN_OF_LIFE_MS);
  try {
    const { etag } = await completing;
    const tree = { Location: `/${bucket}/${key}`, Bucket: bucket, Key: key, ETag: quoted(etag) };
    if (res.headersSent) res.end(document('CompleteMultipartUploadResult', tree).replace(/^<\?.*\n/, ''));
    else sendXml(call, 'CompleteMultipartUploadResult', tree);
  } catch (err) {
    if (!res.headersSent) throw err;
    const { code, message } =
      err instanceof S3Error ? err : { code: 'InternalError', message: 'The upload was not put together.' };
    res.end(errorDocument({ Code: code, Message: message, RequestId: call.request_id }).replace(/^<\?.*\n/, ''));
    if (!(err instanceof S3Error)) throw err;
  } finally {
    clearInterval(alive);
  }
}

export async function abortMultipartUpload(call: S3Call): Promise<void> {
  await call.store.uploads.abort(call.bucket, call.key, uploadId(call));
  sendEmpty(call, 204);
}

export async function listParts(call: S3Call): Promise<void> {
  const { bucket, key, query } = call;
  call.store.uploads.get(bucket, key, uploadId(call));
  const after = queryNumber(call, 'part-number-marker', 0, MOST_PARTS);
  const most = queryNumber(call, 'max-parts', PAGE, PAGE);
  const rest = (await call.store.uploads.parts(bucket, uploadId(call))).filter((part) => part.number > after);
  const page = rest.slice(0, most);
  sendXml(call, 'ListPartsResult', {
    Bucket: bucket,
    Key: namer(call)(key),
    UploadId: uploadId(call),
    PartNumberMarker: after,
    NextPartNumberMarker: page.at(-1)?.number ?? 0,
    MaxParts: most,
    EncodingType: query.get('encoding-type'),
    IsTruncated: rest.length > most,
    Part: page.map((part) => ({
      PartNumber: part.number,
      LastModified: part.modified.toISOString(),
      ETag: quoted(part.etag),
      Size: part.size,
    })),
  });
}

export async function listMultipartUploads(call: S3Call): Promise<void> {
  const { bucket, query } = call;
  const name = namer(call);
  const prefix = query.get('prefix') ?? '';
  const marker = { key: query.get('key-marker') ?? '', id: query.get('upload-id-marker') ?? '' };
  const most = queryNumber(call, 'max-uploads', PAGE, PAGE);
  const all = (await call.store.uploads.list(bucket)).filter((upload) => upload.key.startsWith(prefix));
  const seen = all.findIndex((upload) => upload.upload_id === marker.id && upload.key === marker.key);
  const rest = seen >= 0 ? all.slice(seen + 1) : all.filter((upload) => upload.key > marker.key);
  const page = rest.slice(0, most);
  sendXml(call, 'ListMultipartUploadsResult', {
    Bucket: bucket,
    KeyMarker: name(marker.key),
    UploadIdMarker: marker.id,
    NextKeyMarker: rest.length > most ? name(page.at(-1)?.key ?? '') : null,
    NextUploadIdMarker: rest.length > most ? page.at(-1)?.upload_id : null,
    Prefix: name(prefix),
    MaxUploads: most,
    EncodingType: query.get('encoding-type'),
    IsTruncated: rest.length > most,
    Upload: page.map(({ key, upload_id, initiated }) => ({
      Key: name(key),
      UploadId: upload_id,
      StorageClass: 'STANDARD',
      Initiated: initiated,
    })),
  });
}
