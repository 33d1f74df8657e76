import { existsSync } from 'node:fs';
import { adminContext } from '../common/context.ts';
import { dbFlags, rabbitFlags } from '../common/core_flags.ts';
import { connectDb, sqliteFile, type NovaDb } from '../common/db/connect.ts';
import { databaseErrorAtStart } from '../common/db/failures.ts';
import { ensureSchema } from '../common/db/migrate.ts';
import { errorText, FlagsError, InvalidInput, RpcUnavailable } from '../common/errors.ts';
import { FlagsExit, loadFlags, type Flags } from '../common/flags.ts';
import { silentLog } from '../common/log.ts';
import type { RpcBus } from '../common/rpc/bus.ts';
import { absentText } from './absent.ts';
import { HelpAsked, matching, parseArguments, UsageError } from './arguments.ts';
import { nounHelp, synopsis, topHelp, verbHelp } from './help.ts';
import type { Manage, Noun, Verb } from './noun.ts';
import { NOUNS } from './nouns.ts';

export interface Output {
  out(line: string): void;
  warn(line: string): void;
}

/** What was asked for, and the words left for it. */
interface Found {
  noun: Noun;
  /** Empty: the noun itself. */
  name: string;
  verb: Verb;
  words: readonly string[];
}

/** One run of nova-manage. @returns the exit code: 0, 1 for what failed, 2 for what was not understood */
export async function runManage(argv: readonly string[], io: Output): Promise<number> {
  try {
    const flags = loadFlags(argv, { binary: 'nova-manage', warn: (line) => io.warn(line) });
    return await dispatch(flags, io);
  } catch (err) {
    if (err instanceof FlagsExit) return answer(err, argv, io);
    io.warn(`nova-manage: ${errorText(err)}`);
    return err instanceof FlagsError ? 2 : 1;
  }
}

/** `--help` is about the commands; `--helpshort` and `--helpxml` are about the flags, as at every daemon. */
async function answer(asked: FlagsExit, argv: readonly string[], io: Output): Promise<number> {
  if (argv.some((word) => /^--?(help|h|\?)$/.test(word))) {
    io.out(topHelp(await everyNoun()));
    return 0;
  }
  io.out(asked.text.trimEnd());
  return asked.code;
}

const everyNoun = () => Promise.all(NOUNS.map(async ({ names, load }) => ({ names, noun: await load() })));

async function dispatch(flags: Flags, io: Output): Promise<number> {
  const noun = await findNoun(flags.rest[0], io);
  if (!noun) return 2;
  const words = flags.rest.slice(1);
  if (words[0] === '--help' || words[0] === '-h') {
    io.out(nounHelp(noun));
    return 0;
  }
  const found = findVerb(noun, words, io);
  if (!found) return 2;
  try {
    const args = parseArguments(found.verb.args, found.words);
    return (await withManage(flags, io, found.verb, (m) => found.verb.run(m, args))) ?? 0;
  } catch (err) {
    if (err instanceof HelpAsked) {
      io.out(found.name === '' ? nounHelp(noun) : verbHelp(noun, found.name, found.verb));
      return 0;
    }
    if (!(err instanceof UsageError)) throw err;
    const called = ['nova-manage', noun.name, found.name].filter((word) => word !== '').join(' ');
    io.warn(`${called}: ${errorText(err)}\nUsage: ${called} ${synopsis(found.verb.args)}`.trimEnd());
    return 2;
  }
}

async function findNoun(word: string | undefined, io: Output): Promise<Noun | undefined> {
  const names = NOUNS.flatMap((entry) => entry.names);
  const meant = word === undefined ? [] : matching(names, word);
  const entries = NOUNS.filter((entry) => entry.names.some((name) => meant.includes(name)));
  if (entries.length === 1) return entries[0]?.load();
  if (entries.length > 1) {
    io.warn(`${word} matches several categories:\n${listed(meant)}`);
    return undefined;
  }
  const rows = (await everyNoun()).map(({ noun }) => `${noun.name.padEnd(16)}${noun.summary}`);
  const why =
    word === undefined
      ? 'nova-manage [flags] category action [arguments]'
      : (absentText(word) ?? `${word} is no category`);
  io.warn(`${why}\nCategories:\n${listed(rows)}`);
  return undefined;
}

function findVerb(noun: Noun, words: readonly string[], io: Output): Found | undefined {
  const [word] = words;
  const names = Object.keys(noun.verbs);
  const meant = word === undefined ? [] : matching(names, word.replaceAll('-', '_'));
  const [name] = meant;
  const verb = name === undefined ? undefined : noun.verbs[name];
  if (meant.length === 1 && name !== undefined && verb) return { noun, name, verb, words: words.slice(1) };
  if (meant.length > 1) {
    io.warn(`nova-manage ${noun.name}: ${word} matches several actions:\n${listed(meant)}`);
    return undefined;
  }
  if (noun.itself) return { noun, name: '', verb: noun.itself, words };
  const rows = names.map((one) => `${one} ${synopsis(noun.verbs[one]?.args ?? {})}`);
  const why =
    word === undefined
      ? `nova-manage ${noun.name}: an action is missing`
      : (absentText(`${noun.name} ${word.replaceAll('-', '_')}`) ?? `${word} is no action of ${noun.name}`);
  io.warn(`${why}\nActions:\n${listed(rows)}`);
  return undefined;
}

const listed = (lines: readonly string[]): string => lines.map((line) => `    ${line.trimEnd()}`).join('\n');

/** Opens what the verb needs, and closes it whatever happens. */
async function withManage<T>(flags: Flags, io: Output, verb: Verb, work: (m: Manage) => Promise<T>): Promise<T> {
  const { sql_connection } = flags.read(dbFlags);
  const file = sqliteFile(sql_connection);
  const is_new = file !== null && !existsSync(file);
  if (is_new && !verb.may_be_first) throw noDatabase(file);
  const db = await connectDb(sql_connection, { max_connections: 2 });
  let bus: Promise<RpcBus> | undefined;
  try {
    if (verb.needs_schema) await checkSchema(db, flags);
    return await work({ flags, db, ctx: adminContext(), bus: () => (bus ??= openBus(flags)), ...io });
  } finally {
    await bus?.then(
      (open) => open.close(),
      () => undefined, // the verb has thrown this already
    );
    await db.destroy();
    if (is_new && existsSync(file)) io.warn(`a new database was made: ${file} (--sql_connection)`);
  }
}

/** An empty cloud that nobody meant would answer like the real one. */
const noDatabase = (file: string): InvalidInput =>
  new InvalidInput(
    `there is no database ${file} (--sql_connection): name the flagfile of the daemons, ` +
      'nova-manage --flagfile=FILE ..., or begin a cloud with nova-manage db sync',
  );

/** @throws DatabaseUnusable that names the flag, NovaError for a schema of another release */
async function checkSchema(db: NovaDb, flags: Flags): Promise<void> {
  try {
    await ensureSchema(db);
  } catch (err) {
    throw databaseErrorAtStart(err, flags.read(dbFlags).sql_connection);
  }
}

async function openBus(flags: Flags): Promise<RpcBus> {
  if (flags.read(rabbitFlags).fake_rabbit)
    throw new RpcUnavailable('with --fake_rabbit the daemons are one process, which takes no messages from this one');
  const daemon = await import('../common/daemon.ts'); // most verbs need no broker
  return daemon.openBus(flags, silentLog, { max_retries: 2 });
}
