import { AuthFailure } from '../errors.ts';
import type { Claim, SignedRequest } from './claim.ts';
import { readEc2QueryClaim, type SignedParams } from './ec2_query_signature.ts';
import { isS3V2, readS3V2Claim } from './s3_signature.ts';
import { isV4, readV4Claim, type V4Claim } from './signature_v4.ts';

/**
 * Who an EC2 (or STS) request says it is from: signature versions 0, 1, 2 and 4.
 * @param params query and form body together, decoded
 * @throws MissingParameter, AuthFailure, InvalidInput
 */
export function readEc2Claim(request: SignedRequest, params: SignedParams, body: Buffer): Claim {
  if (!isV4(request)) return readEc2QueryClaim(request, params);
  // Any service but S3's, whose rules differ: boto takes the first part of the host's name for the service.
  const claim = readV4Claim(request, body);
  if (claim.service !== 's3') return claim;
  throw new AuthFailure('the credential is for the service s3; sign for the service ec2');
}

/**
 * Who an S3 request says it is from, or null when it is not signed. Versions 2 and 4, header or query. The caller checks
 * the body against `payload_hash` of a version 4 claim.
 * @param bucket the bucket when the Host header names it, else null
 * @throws AuthFailure, InvalidInput
 */
export function readS3Claim(request: SignedRequest, bucket: string | null): V4Claim | Claim | null {
  if (isV4(request)) return ofS3(readV4Claim(request, null));
  return isS3V2(request) ? readS3V2Claim(request, bucket) : null;
}

function ofS3(claim: V4Claim): V4Claim {
  if (claim.service === 's3') return claim;
  throw new AuthFailure(`the credential is for the service '${claim.service}'; sign for the service s3`);
}
