import { NovaError } from '../common/errors.ts';

/** The URL is right, the method is not; `details.allowed` are the right ones. */
export class BadMethod extends NovaError {
  override readonly http_status: number = 405;
}
export class NotAcceptable extends NovaError {
  override readonly http_status: number = 406;
}
/** A body is missing where one is needed: Nova's status for it. */
export class UnprocessableEntity extends NovaError {
  override readonly http_status: number = 422;
}
/** The original knows it, this one does not offer it. */
export class NotImplemented extends NovaError {
  override readonly http_status: number = 501;
}

/** Whether the message is for the client's eyes: what is its own fault, and of 5xx those that say what it may do. */
export const isTold = (err: unknown): err is NovaError =>
  err instanceof NovaError && (err.http_status < 500 || [501, 503, 504].includes(err.http_status));

/** A bug is told by its request id alone. */
export const untold = (request_id: string): string =>
  `this server failed, which is a fault of its own; its log names the cause beside ${request_id}`;
