import { DatabaseUnavailable, DatabaseUnusable, errorText } from '../errors.ts';

/**
 * What a database's driver says, in our words: for who made a request (503, ask again) and for who starts a daemon (which
 * flag, what to do). The one place that knows the drivers' codes for a database that cannot be used.
 */
interface Failure {
  /** What is wrong, without addresses: any user may read it. */
  reason: string;
  /** What the operator does. */
  remedy: string;
  /** Waiting does not help: somebody has to mend it. */
  lasting?: boolean;
}

const AWAY = 'start it, or correct the address';
const RIGHTS = 'give a place that this user may write';
const FAILURES: Readonly<Record<string, Failure>> = {
  ECONNREFUSED: { reason: 'connection refused', remedy: AWAY },
  ECONNRESET: { reason: 'connection broken', remedy: AWAY },
  EPIPE: { reason: 'connection broken', remedy: AWAY },
  ETIMEDOUT: { reason: 'no answer', remedy: AWAY },
  EHOSTUNREACH: { reason: 'no way to its host', remedy: AWAY },
  ENETUNREACH: { reason: 'no way to its host', remedy: AWAY },
  ENOTFOUND: { reason: 'its host has no address', remedy: 'correct the host in the URL, or its entry in the DNS' },
  EAI_AGAIN: { reason: 'its host has no address', remedy: 'correct the host in the URL, or its entry in the DNS' },
  // PostgreSQL; https://www.postgresql.org/docs/15/errcodes-appendix.html
  '57P01': { reason: 'it is shutting down', remedy: 'start it again' },
  '57P02': { reason: 'it crashed', remedy: 'look into its log' },
  '57P03': { reason: 'it is starting up', remedy: 'wait for it' },
  '53300': { reason: 'it has no free connections', remedy: 'raise its max_connections' },
  '53100': { reason: 'its disk is full', remedy: 'free space there' },
  '53200': { reason: 'it has no memory left', remedy: 'free memory there' },
  '25006': { reason: 'it takes no writes', remedy: 'name the primary server, not a standby', lasting: true },
  '28P01': { reason: 'it refuses the password', remedy: 'correct user and password in the URL', lasting: true },
  '28000': { reason: 'it refuses the user', remedy: 'correct the user in the URL, or its pg_hba.conf', lasting: true },
  '3D000': { reason: 'it has no database of that name', remedy: 'create it, or correct the URL', lasting: true },
  '42501': { reason: 'the user lacks a right', remedy: 'make the user the owner of the tables', lasting: true },
  // SQLite
  SQLITE_FULL: { reason: 'its disk is full', remedy: 'free space there' },
  SQLITE_IOERR: { reason: 'its disk fails', remedy: 'look into the log of the kernel' },
  SQLITE_BUSY: { reason: 'another process holds its lock', remedy: 'find and end it' },
  SQLITE_LOCKED: { reason: 'another process holds its lock', remedy: 'find and end it' },
  SQLITE_READONLY: { reason: 'the file may not be written', remedy: RIGHTS, lasting: true },
  SQLITE_PERM: { reason: 'the file may not be opened', remedy: RIGHTS, lasting: true },
  SQLITE_CANTOPEN: { reason: 'the file cannot be opened', remedy: RIGHTS, lasting: true },
  SQLITE_NOTADB: { reason: 'the file is no SQLite database', remedy: 'name another file', lasting: true },
  SQLITE_CORRUPT: { reason: 'the file is damaged', remedy: 'restore a backup', lasting: true },
  // Of its folder
  ENOSPC: { reason: 'its disk is full', remedy: 'free space there' },
  EACCES: { reason: 'its folder may not be written', remedy: RIGHTS, lasting: true },
  EPERM: { reason: 'its folder may not be written', remedy: RIGHTS, lasting: true },
  EROFS: { reason: 'its folder is on a read-only file system', remedy: RIGHTS, lasting: true },
  ENOENT: { reason: 'its folder cannot be made', remedy: RIGHTS, lasting: true },
  ENOTDIR: { reason: 'its folder cannot be made', remedy: RIGHTS, lasting: true },
  EEXIST: { reason: 'its folder cannot be made', remedy: RIGHTS, lasting: true },
};
/** The pg module's own, which have no codes; what a server says is in its operator's language. */
const LOST = /connection terminated|not queryable|timeout (exceeded|expired)|query read timeout/i;

/** An error of a database's driver as a DatabaseUnavailable with its cause, where it is one; else as it came. */
export function databaseError(err: unknown): unknown {
  const failure = failureOf(err);
  if (failure === undefined) return err;
  const { reason, remedy, lasting } = failure;
  const text = lasting
    ? `the database cannot be used (${reason}); whoever runs this cloud has to mend that`
    : `the database is away for now (${reason}); try again in a while`;
  const options = { cause: err, details: { reason, remedy } };
  return lasting ? new DatabaseUnusable(text, options) : new DatabaseUnavailable(text, options);
}

function failureOf(err: unknown): Failure | undefined {
  if (err instanceof AggregateError) return failureOf(err.errors[0]); // every address of a host was tried
  const code = String((err as { code?: unknown }).code ?? '');
  const known = FAILURES[code] ?? FAILURES[code.split('_', 2).join('_')]; // SQLITE_IOERR_WRITE
  if (known) return known;
  if (/^08...$/.test(code) || (err instanceof Error && LOST.test(err.message)) || isStalePlan(err))
    return { reason: 'connection broken', remedy: AWAY };
  return undefined;
}

/** A statement that PostgreSQL prepared before a migration does not fit the table any more; its code has other reasons too. */
export function isStalePlan(err: unknown): boolean {
  const { code, routine } = err as { code?: unknown; routine?: unknown };
  return code === '0A000' && routine === 'RevalidateCachedQuery';
}

/** The same for who started a daemon or command: which flag, what is wrong, what to do; what is nothing of the kind as it came. */
export function databaseErrorAtStart(err: unknown, sql_connection: string): unknown {
  if (!(err instanceof DatabaseUnavailable)) return err;
  const { reason, remedy } = err.details as { reason: string; remedy: string };
  const text = `--sql_connection=${withoutPassword(sql_connection)}: ${reason} (${errorText(innermost(err))}); ${remedy}`;
  return new DatabaseUnusable(text, { cause: err, details: err.details });
}

const withoutPassword = (url: string): string => url.replace(/(:\/\/[^:/@\s]*:)[^/\s]*@/, '$1***@');

function innermost(err: Error): unknown {
  const { cause } = err;
  return cause instanceof AggregateError ? cause.errors[0] : (cause ?? err);
}
