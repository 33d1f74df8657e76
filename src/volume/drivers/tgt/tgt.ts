import { randomInt } from 'node:crypto';
import { access as accessible, constants } from 'node:fs/promises';
import { delimiter, join, resolve } from 'node:path';
import { clock, sleep } from '../../../common/clock.ts';
import { Aborted, BackendUnavailable, errorText, InvalidInput } from '../../../common/errors.ts';
import { defineFlags, integer, string, type Flags } from '../../../common/flags.ts';
import { Turns } from '../../../common/linux/host.ts';
import type { Log } from '../../../common/log.ts';
import type { ExportAccess } from '../driver.ts';
import { askTgtdUnless, TGT_ERRORS, TgtdGone, TgtError } from './protocol.ts';
import { parseAccounts, parseConnections, parseTargets, type TgtTarget } from './targets.ts';
import { Tgtd } from './tgtd.ts';

export const tgtFlags = defineFlags({
  iscsi_ip_address: string('$my_ip', 'Address of this host at which hypervisors reach its volumes'),
  iscsi_port: integer(3260, 'Port of iSCSI', { min: 1, max: 65535 }),
  iscsi_target_prefix: string('iqn.2010-10.org.openstack:', 'Before the name of a volume in the name of its target', {
    form: {
      pattern: 'iqn\\.[A-Za-z0-9.:-]{1,180}',
      says: 'like iqn.2010-10.org.openstack: with letters, digits, . : -',
    },
  }),
  tgt_path: string('$state_path/tgt', "Folder of the control socket and the log of nova-volume's own tgtd"),
});

/** An export as it ought to be. */
export interface TgtExport {
  iqn: string;
  target_num: number;
  /** Of a file or a block device. */
  path: string;
  access: ExportAccess;
}

/** tgtd's own number 0 is a controller. */
export const LUN = 1;
const DROP_MS = 30_000;
const QUICK_DEATH_MS = 10_000;

/**
 * What tgtd exports. A volume that nobody may reach has no target at all; one that somebody may has one target, one LUN, one
 * CHAP account, and takes logins from any address. tgtd lets everybody into a target that has no account, so the order is:
 *
 *   open    target, LUN, account, account bound to it ──> ACL `ALL`, last
 *   close   ACL away, first ──> account deleted ──> connections closed ──> target deleted, which waits for what is written
 *
 * Whatever dies in between, nobody gets in. A new access gets a new target with a number that was not used before: tgtd asks
 * for the secret in the middle of a login and looks for the target by its number at the end, so a login that began under the
 * old access must not end in the new target.
 */
export class Tgt {
  readonly #tgtd: Tgtd;
  readonly #log: Log;
  readonly #turns = new Turns();
  /** By target name: what to put back into a new tgtd. */
  readonly #wanted = new Map<string, TgtExport>();
  #started_at = 0;
  #signal = new AbortController().signal;

  constructor({ flags, log }: { flags: Flags; log: Log }) {
    const { iscsi_ip_address, iscsi_port, tgt_path } = flags.read(tgtFlags);
    const address = iscsi_ip_address.includes(':') ? `[${iscsi_ip_address}]` : iscsi_ip_address;
    this.#tgtd = new Tgtd({ folder: resolve(tgt_path), address, port: iscsi_port }, log);
    this.#log = log;
  }

  /** `address:port` */
  get portal(): string {
    return this.#tgtd.portal;
  }

  /** Has tgtd running until the signal, and starts it again whenever it ends. @throws BackendUnavailable, InvalidInput */
  async initHost(signal: AbortSignal): Promise<void> {
    if (!(await isProgram('tgtd')))
      throw new BackendUnavailable(
        'nova-volume needs tgtd (Debian package tgt): install it, or start with --volume_driver=nova.volume.driver.FakeISCSIDriver',
      );
    this.#signal = signal;
    await this.#turns.take(async () => {
      if (!(await this.#ensureRunning())) this.#watch();
      await this.#forgetOrphans();
    });
  }

  /** Makes this export as given; a session of this very access lives on. @throws BackendUnavailable, InvalidInput */
  ensure(wanted: TgtExport, signal: AbortSignal): Promise<void> {
    checkWords(wanted);
    return this.#use(async () => {
      const targets = await this.#targets();
      const target = targets.find(({ iqn }) => iqn === wanted.iqn);
      if (target && isAsWanted(target, wanted)) {
        if (this.#wanted.get(wanted.iqn)?.access.password !== wanted.access.password)
          await this.#renewSecret(target, wanted.access);
      } else {
        this.#wanted.delete(wanted.iqn);
        const elsewhere = targets.find((other) => other !== target && other.accounts.includes(wanted.access.username));
        if (elsewhere)
          throw new InvalidInput(
            `the CHAP user ${wanted.access.username} of ${wanted.iqn} is that of ${elsewhere.iqn}`,
          );
        if (target) await this.#close(target, signal);
        await this.#open(wanted);
      }
      this.#wanted.set(wanted.iqn, wanted);
    });
  }

  /** Its sessions have ended, and what they wrote is in the file, when this returns. Absent is success. */
  remove(iqn: string, signal: AbortSignal): Promise<void> {
    return this.#use(async () => {
      this.#wanted.delete(iqn);
      const target = (await this.#targets()).find((one) => one.iqn === iqn);
      if (target) await this.#close(target, signal);
    });
  }

  /** Names of all targets, of a tgtd that is started where none runs. */
  async iqns(): Promise<string[]> {
    return this.#use(async () => {
      await this.#tgtd.trimLog();
      return (await this.#targets()).map(({ iqn }) => iqn);
    });
  }

  /** Names of all targets; null where no tgtd runs: none is started to look. */
  look(): Promise<string[] | null> {
    return this.#turns.take(async () => {
      try {
        return (await this.#targets()).map(({ iqn }) => iqn);
      } catch (err) {
        if (err instanceof TgtdGone) return null;
        throw err;
      }
    });
  }

  /**
   * Ends tgtd, unless somebody has a session: then it stays. nova-volume must not run any more.
   * @returns the targets that somebody uses
   */
  async end(): Promise<string[]> {
    if (!(await this.#tgtd.runs())) return [];
    const targets = await this.#targets();
    const used = targets.filter(({ sessions }) => sessions.length > 0);
    if (used.length > 0) return used.map(({ iqn }) => iqn);
    for (const target of targets) await this.#close(target, new AbortController().signal);
    await this.#tgtd.end();
    return [];
  }

  /** One after the other; a tgtd that ended meanwhile is started again, with all its exports, and asked once more. */
  #use<T>(task: () => Promise<T>): Promise<T> {
    return this.#turns.take(async () => {
      await this.#ensureRunning();
      try {
        return await task();
      } catch (err) {
        if (!(err instanceof TgtdGone)) throw err;
        await this.#ensureRunning();
        return await task();
      }
    });
  }

  /** @returns whether it is a new one */
  async #ensureRunning(): Promise<boolean> {
    if (!(await this.#tgtd.ensure())) return false;
    this.#started_at = clock.now().getTime();
    this.#watch();
    for (const wanted of this.#wanted.values()) {
      try {
        await this.#open(wanted);
      } catch (err) {
        if (err instanceof TgtdGone) throw err;
        this.#log.error({ err, iqn: wanted.iqn }, 'an export cannot be put back');
      }
    }
    if (this.#wanted.size > 0)
      this.#log.warn({ exports: this.#wanted.size }, 'tgtd had ended: its exports are put back');
    return true;
  }

  #watch(): void {
    this.#tgtd.watch(() => void this.#revive(), this.#signal);
  }

  async #revive(): Promise<void> {
    const signal = this.#signal;
    let wait_ms = clock.now().getTime() - this.#started_at < QUICK_DEATH_MS ? 1000 : 0;
    for (; !signal.aborted; wait_ms = Math.min(2 * wait_ms + 1000, 30_000)) {
      try {
        if (wait_ms > 0) await sleep(wait_ms, signal);
        await this.#turns.take(async () => signal.aborted || (await this.#ensureRunning()));
        return;
      } catch (err) {
        if (!signal.aborted) this.#log.error({ err }, 'tgtd ended and cannot be started again');
      }
    }
  }

  async #targets(): Promise<TgtTarget[]> {
    return parseTargets(await this.#tgtd.ask({ mode: 'target', op: 'show' }));
  }

  async #open({ iqn, target_num, path, access }: TgtExport): Promise<void> {
    const tid = await this.#newTarget(iqn, target_num);
    try {
      await this.#tgtd.ask({ mode: 'device', op: 'new', tid, lun: LUN, params: `path=${path},bstype=rdwr` });
    } catch (err) {
      if (!(err instanceof TgtError)) throw err;
      await this.#tgtd.ask({ mode: 'target', op: 'delete', tid });
      throw new BackendUnavailable(`tgtd cannot open ${path}, the bytes of ${iqn}: ${await whyNot(path)}`, {
        cause: err,
      });
    }
    // Else they would follow the number, and the disk would look like another one after each restart of tgtd.
    const serial = iqn.slice(-36);
    await this.#tgtd.ask({
      mode: 'device',
      op: 'update',
      tid,
      lun: LUN,
      params: `scsi_sn=${serial},scsi_id=${serial}`,
    });
    await this.#newAccount(tid, access);
    await this.#tgtd.ask({ mode: 'target', op: 'bind', tid, params: 'initiator-address=ALL' });
  }

  /** @returns its number: the last four digits are `target_num`, those before are drawn */
  async #newTarget(iqn: string, target_num: number): Promise<number> {
    for (let attempt = 0; ; attempt++) {
      const tid = randomInt(1, 214_748) * 10_000 + (target_num % 10_000);
      try {
        await this.#tgtd.ask({ mode: 'target', op: 'new', tid, params: `targetname=${iqn}` });
        return tid;
      } catch (err) {
        if (!(err instanceof TgtError && err.code === TGT_ERRORS.target_exists) || attempt === 10) throw err;
      }
    }
  }

  async #newAccount(tid: number, { username, password }: ExportAccess): Promise<void> {
    await this.#deleteAccount(username);
    await this.#tgtd.ask({ mode: 'account', op: 'new', params: `user=${username},password=${password}` });
    await this.#tgtd.ask({ mode: 'account', op: 'bind', tid, params: `user=${username}` });
  }

  async #deleteAccount(username: string): Promise<void> {
    const gone = this.#tgtd.ask({ mode: 'account', op: 'delete', params: `user=${username}` });
    await askTgtdUnless([TGT_ERRORS.no_user], gone);
  }

  /** tgtd tells no secret, so that of an adopted export is set anew; the session of this user is not touched. */
  async #renewSecret(target: TgtTarget, access: ExportAccess): Promise<void> {
    await this.#shut(target);
    await this.#newAccount(target.tid, access);
    await this.#tgtd.ask({ mode: 'target', op: 'bind', tid: target.tid, params: 'initiator-address=ALL' });
  }

  async #shut({ tid, acl }: TgtTarget): Promise<void> {
    for (const entry of acl) {
      const params = `${entry.startsWith('iqn.') ? 'initiator-name' : 'initiator-address'}=${entry}`;
      await askTgtdUnless([TGT_ERRORS.acl_not_there], this.#tgtd.ask({ mode: 'target', op: 'unbind', tid, params }));
    }
  }

  async #close(target: TgtTarget, signal: AbortSignal): Promise<void> {
    const { tid, iqn } = target;
    await this.#shut(target);
    for (const username of target.accounts) await this.#deleteAccount(username);
    const { no_session, no_connection, target_active, lun_active } = TGT_ERRORS;
    for (const deadline = clock.now().getTime() + DROP_MS; ; await sleep(10)) {
      if (signal.aborted) throw new Aborted(`closing ${iqn} was given up: ${String(signal.reason)}`);
      for (const { sid, cid } of parseConnections(await this.#tgtd.ask({ mode: 'connection', op: 'show', tid }))) {
        const closing = this.#tgtd.ask({ mode: 'connection', op: 'delete', tid, sid, cid });
        await askTgtdUnless([no_session, no_connection], closing);
      }
      const deleting = this.#tgtd.ask({ mode: 'target', op: 'delete', tid });
      if (await askTgtdUnless([target_active, lun_active], deleting)) return;
      if (clock.now().getTime() > deadline)
        throw new BackendUnavailable(
          `${iqn} still writes ${DROP_MS / 1000} s after its connections were closed: the store does not answer; nobody can log in meanwhile`,
        );
    }
  }

  /** Accounts of no target: of an attempt that was killed. */
  async #forgetOrphans(): Promise<void> {
    const bound = (await this.#targets()).flatMap(({ accounts }) => accounts);
    const all = parseAccounts(await this.#tgtd.ask({ mode: 'account', op: 'show' }));
    for (const username of all.filter((one) => !bound.includes(one))) await this.#deleteAccount(username);
  }
}

const isAsWanted = ({ state, luns, accounts, acl }: TgtTarget, { path, access }: TgtExport): boolean =>
  state === 'ready' &&
  same(luns, [{ lun: LUN, path, readonly: false }]) &&
  same(accounts, [access.username]) &&
  same(acl, ['ALL']);
const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

/** Requests are `name=value,...` without any escapes. @throws InvalidInput */
function checkWords({ iqn, path, access }: TgtExport): void {
  if (!/^[A-Za-z0-9:.-]{1,223}$/.test(iqn))
    throw new InvalidInput(
      `${iqn} cannot be the name of an iSCSI target: letters, digits, : . and - can, ` +
        'see --iscsi_target_prefix and --volume_name_template',
    );
  if (/[,\0]/.test(path)) throw new InvalidInput(`tgtd cannot export ${path}: a path with a comma`);
  if (!/^[\w.:-]{1,200}$/.test(access.username))
    throw new InvalidInput('a CHAP user name has letters, digits, _ . : -');
  if (!/^[!-~]{12,200}$/.test(access.password))
    throw new InvalidInput('a CHAP secret has 12 to 200 characters of ASCII');
}

async function whyNot(path: string): Promise<string> {
  try {
    await accessible(path, constants.R_OK | constants.W_OK);
    return "see tgtd.log in --tgt_path; a file's size must be a multiple of 512 bytes";
  } catch (err) {
    return errorText(err);
  }
}

async function isProgram(name: string): Promise<boolean> {
  for (const folder of [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'])
    if (
      await accessible(join(folder, name), constants.X_OK).then(
        () => true,
        () => false,
      )
    )
      return true;
  return false;
}
