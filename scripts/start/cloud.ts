import { sleep } from '../../src/common/clock.ts';
import { endpointFlags } from '../../src/common/core_flags.ts';
import { openDatabase } from '../../src/common/daemon.ts';
import type { NovaDb } from '../../src/common/db/connect.ts';
import type { User } from '../../src/common/db/users.ts';
import { errorText } from '../../src/common/errors.ts';
import type { Flags } from '../../src/common/flags.ts';
import { silentLog } from '../../src/common/log.ts';
import { takeDownHost } from '../../src/network/take_down.ts';
import { takeDownVolumes } from '../../src/volume/take_down.ts';
import { guestImage, type GuestImageFiles } from '../guest_image.ts';
import { libvirtd, novaAll, type Daemon } from './daemons.ts';
import { choosePorts, writeFlagfile, type Ports } from './flagfile.ts';
import { restoreSysctls } from './host_network.ts';
import { OpenStackClient } from './openstack_client.ts';
import type { Progress } from './progress.ts';
import { fakeGuestImage, PROJECT, seedImage, seedNetwork, seedPeople, USER, writeNovarc } from './seed.ts';
import { StartError } from './start_error.ts';
import type { Run, StateFolder } from './state_folder.ts';

const GONE_MS = 90_000;

/**
 * The cloud of one state folder: what is started, in order, and what is ended, in the other order. Ending also ends what
 * an earlier start left when it was killed: its daemons are started once more, so that they take their guests away.
 */
export class Cloud {
  readonly #state: StateFolder;
  readonly #run: Run;
  readonly #progress: Progress;
  readonly #libvirtd: Daemon | undefined;
  readonly #nova: Daemon;
  #open: { flags: Flags; ports: Ports; db: NovaDb; user: User } | undefined;

  constructor(state: StateFolder, run: Run, progress: Progress) {
    this.#state = state;
    this.#run = run;
    this.#progress = progress;
    this.#nova = novaAll(state);
    if (run.mode.driver === 'libvirt' && run.mode.libvirtd === 'own') this.#libvirtd = libvirtd(state);
  }

  get #opened() {
    if (this.#open === undefined) throw new Error('the cloud was not started');
    return this.#open;
  }
  get db(): NovaDb {
    return this.#opened.db;
  }
  get ports(): Ports {
    return this.#opened.ports;
  }
  get endpoints(): { ec2: string; openstack: string; identity: string; s3: string } {
    const { flags, ports } = this.#opened;
    const { ec2_path, osapi_path } = flags.read(endpointFlags);
    const at = (port: number) => `http://127.0.0.1:${port}`;
    return {
      ec2: at(ports.ec2) + ec2_path,
      openstack: at(ports.openstack) + osapi_path,
      identity: `${at(ports.identity)}/v2.0/`,
      s3: at(ports.s3),
    };
  }

  /** A client of the user's, with a token of its own. */
  client(): Promise<OpenStackClient> {
    return OpenStackClient.login(this.endpoints.openstack, USER, this.#opened.user.access_key, PROJECT);
  }

  /** Resolves with what nova-all said last, should it end by itself. */
  async died(): Promise<string> {
    await this.#nova.ended;
    return `nova-all ended by itself.\n${this.#nova.lastWords()}`;
  }

  /** Everything up to the first launch. @returns the image to launch from. @throws StartError, the signal's reason */
  async start(signal: AbortSignal): Promise<number> {
    const files = await this.#progress.run('test guest', () => this.#guestFiles(signal));
    signal.throwIfAborted();
    const image_id = await this.#progress.run('database', async () => {
      const { db } = await this.#openDatabase();
      await seedNetwork(db, this.#state, this.#run.network);
      await writeNovarc(this.#state);
      return seedImage(db, this.#state, files);
    });
    signal.throwIfAborted();
    await this.#startDaemons();
    signal.throwIfAborted();
    return image_id;
  }

  #guestFiles(signal: AbortSignal): Promise<GuestImageFiles> {
    if (this.#run.mode.driver === 'fake') return fakeGuestImage(this.#state);
    return guestImage((line) => this.#progress.note(line), { cache: this.#state.path('cache'), signal });
  }

  async #openDatabase() {
    if (this.#open !== undefined) return this.#open;
    const ports = await choosePorts();
    const flags = writeFlagfile(this.#state, this.#run, ports);
    this.#state.makePrivate('nova.sqlite');
    const db = await openDatabase(flags, silentLog);
    this.#open = { flags, ports, db, user: await seedPeople(db) };
    return this.#open;
  }

  async #startDaemons(): Promise<void> {
    const { ports } = await this.#openDatabase();
    const own = this.#libvirtd;
    if (own && !own.running) await this.#progress.run('libvirtd', () => own.start());
    if (!this.#nova.running)
      await this.#progress.run(
        'daemons',
        () => this.#nova.start(),
        () => `on ports ${Object.values(ports).join(' ')}`,
      );
  }

  /** Ends all of it and leaves the host as it was. Each part is tried, whatever became of the others. @throws StartError */
  async end(): Promise<void> {
    const troubles: string[] = [];
    const attempt = async (label: string, work: () => Promise<unknown>) => {
      await this.#progress.run(label, work).catch((err: unknown) => troubles.push(`${label}: ${errorText(err)}`));
    };
    try {
      if (await this.#hasInstances()) {
        await this.#startDaemons();
        await attempt('terminating', () => this.#terminateAll());
      }
    } catch (err) {
      troubles.push(errorText(err));
    }
    if (this.#nova.running) await attempt('stopping', () => this.#nova.stop());
    if (this.#run.mode.driver !== 'fake') await attempt('volumes', () => this.#takeDownVolumes());
    if (this.#run.mode.driver === 'libvirt') await attempt('network', () => this.#takeDownNetwork());
    if (this.#libvirtd?.running) await attempt('libvirtd', () => this.#libvirtd?.stop() ?? Promise.resolve());
    restoreSysctls(this.#run.sysctls);
    await this.#open?.db.destroy();
    this.#open = undefined;
    if (troubles.length > 0)
      throw new StartError(`${troubles.join('\n')}\nnpm start tries again to end this when it is started next`);
    this.#state.forgetRun();
  }

  async #hasInstances(): Promise<boolean> {
    const { db } = await this.#openDatabase();
    return (await db.selectFrom('instances').select('id').where('deleted', '=', 0).limit(1).execute()).length > 0;
  }

  /** Also those that the user launched meanwhile. */
  async #terminateAll(): Promise<void> {
    const client = await this.client();
    const asked = new Set<number>();
    for (const deadline = Date.now() + GONE_MS; ; await sleep(100)) {
      const left = await client.servers();
      if (left.length === 0) return;
      if (Date.now() > deadline)
        throw new StartError(`${left.map(({ name }) => name).join(', ')} did not go away in ${GONE_MS / 1000} s`);
      for (const { id } of left.filter((one) => !asked.has(one.id))) {
        asked.add(id);
        await client.terminate(id);
      }
    }
  }

  /** The bytes stay in the state folder, for the next start. */
  async #takeDownVolumes(): Promise<void> {
    const { flags } = await this.#openDatabase();
    const left = await takeDownVolumes({ flags, log: silentLog });
    if (left.length > 0) throw new StartError(`somebody still has a session with ${left.join(', ')}`);
  }

  async #takeDownNetwork(): Promise<void> {
    const { db, flags } = await this.#openDatabase();
    const left = await takeDownHost({ db, flags, log: silentLog });
    if (left.length > 0)
      throw new StartError(left.map(({ bridge, ports }) => `${bridge} stays, with ${ports.join(', ')}`).join('; '));
  }
}
