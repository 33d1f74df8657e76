import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { clock, sleep } from '../../common/clock.ts';
import type { Difference } from '../../common/difference.ts';
import { BackendUnavailable } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import {
  dhcpFiles,
  dnsmasqArgv,
  hostsFile,
  leasesFile,
  type DhcpHost,
  type DhcpNetworks,
  type DhcpSettings,
} from '../logic/dhcp_hosts.ts';
import { forgetDhcpEvents } from './dhcp_events.ts';
import { needing, Turns, type Host } from '../../common/linux/host.ts';

export interface DnsmasqSettings extends DhcpSettings {
  /** Told to nova-dhcpbridge, for an operator who runs it by hand in dnsmasq's place; null: none. */
  flagfile: string | null;
}

/**
 * One dnsmasq for each bridge. It outlives nova-network: a new nova-network finds it by its pid file, and takes it on
 * when its command line is the one that we would start.
 *
 *   wanted command line == running one ──> told of another hosts file? SIGHUP : nothing
 *   else                               ──> end the old one, write the lease file, start
 */
export class Dnsmasq {
  readonly #host: Host;
  readonly #settings: DnsmasqSettings;
  readonly #log: Log;
  readonly #turns = new Map<string, Turns>();
  constructor(host: Host, settings: DnsmasqSettings, log: Log) {
    this.#host = host;
    this.#settings = { ...settings, networks_path: resolve(settings.networks_path) };
    this.#log = log;
  }

  /** See NetworkDriver.updateDhcp. */
  update(
    networks: DhcpNetworks,
    hosts: readonly DhcpHost[],
    leased: readonly DhcpHost[],
    signal: AbortSignal,
  ): Promise<void> {
    const [{ bridge }] = networks;
    return this.#turn(bridge).take(async () => {
      const files = dhcpFiles(this.#settings.networks_path, bridge);
      await mkdir(this.#settings.networks_path, { recursive: true });
      const argv = await this.#argv(networks);
      const text = hostsFile(hosts, this.#settings.dhcp_domain);
      await writeIfOther(files.hosts, text);
      const running = await this.#running(bridge);
      if (running && sameWords(running.argv, argv)) {
        if (await this.#knows(bridge, running.pid, text)) return;
        await this.#host.run(['kill', '-HUP', String(running.pid)], { signal });
        await writeIfOther(files.told, toldText(running.pid, text));
        return;
      }
      for (const pid of running ? [running.pid] : await this.#orphans(bridge)) await this.#end(pid);
      await this.#start(networks[0], argv, leased, signal);
      const started = await this.#running(bridge);
      if (started) await writeIfOther(files.told, toldText(started.pid, text));
    });
  }

  /** Whether that dnsmasq was told of this hosts file: one written just before a power cut is as wanted, and unread. */
  async #knows(bridge: string, pid: number, text: string): Promise<boolean> {
    const { told } = dhcpFiles(this.#settings.networks_path, bridge);
    return (await readText(told)) === toldText(pid, text);
  }

  /** What `update` would change. */
  async look(networks: DhcpNetworks, hosts: readonly DhcpHost[]): Promise<Difference[]> {
    const [{ bridge }] = networks;
    const what = `DHCP server of ${bridge}`;
    const found: Difference[] = [];
    const running = await this.#running(bridge);
    if (running === null) {
      const [orphan] = await this.#orphans(bridge);
      const process = orphan === undefined ? 'none' : `process ${orphan}, without its pid file`;
      found.push({ what, expected: 'a dnsmasq', found: process, repair: 'starts one' });
    } else {
      const argv = await this.#argv(networks);
      const other = argv.filter((word, i) => i > 0 && !running.argv.includes(word));
      const extra = running.argv.filter((word, i) => i > 0 && !argv.includes(word));
      if (!sameWords(running.argv, argv))
        found.push({ what, expected: other.join(' ') || 'other options', found: extra.join(' ') || 'options in another order', repair: 'starts it anew' }); // prettier-ignore
    }
    const { hosts: file } = dhcpFiles(this.#settings.networks_path, bridge);
    const lines = (text: string) => text.split('\n').filter((line) => line !== '');
    const [wanted, there] = [hostsFile(hosts, this.#settings.dhcp_domain), await readText(file)];
    if (running && wanted === there && !(await this.#knows(bridge, running.pid, wanted)))
      found.push({ what, expected: `that it read ${file}`, found: 'it was not told to', repair: 'tells it' });
    const [want, have] = [lines(wanted), lines(there)];
    for (const line of want.filter((one) => !have.includes(one)))
      found.push({ what: file, expected: line, found: 'no such line', repair: 'writes it and tells dnsmasq' });
    for (const line of have.filter((one) => !want.includes(one)))
      found.push({ what: file, expected: 'no such line', found: line, repair: 'takes it out and tells dnsmasq' });
    return found;
  }

  /** What `stop` would take away. */
  async lookAfterStop(bridge: string): Promise<Difference[]> {
    const running = await this.#running(bridge);
    const pids = running ? [running.pid] : await this.#orphans(bridge);
    const found = pids.map((pid) => ({
      what: `DHCP server of ${bridge}`,
      expected: 'none, since this host serves no network there',
      found: `process ${pid}`,
      repair: 'ends it',
    }));
    for (const file of Object.values(dhcpFiles(this.#settings.networks_path, bridge)))
      if (await stat(file).catch(() => null))
        found.push({ what: file, expected: 'no such file', found: 'it is there', repair: 'deletes it' });
    return found;
  }

  /** See NetworkDriver.dhcpAddresses. */
  async addresses(bridge: string): Promise<string[]> {
    const words = (await this.#running(bridge))?.argv ?? [];
    return words.flatMap((word) => /^--listen-address=(.+)/.exec(word)?.[1] ?? []);
  }

  /** Those that there are files for. */
  async bridges(): Promise<string[]> {
    const files = await readdir(this.#settings.networks_path).catch((err: NodeJS.ErrnoException) => {
      if (err.code === 'ENOENT') return [];
      throw err;
    });
    const names = files.map((file) => /^nova-([^.]+(?:\.[^.]+)*)\.(?:conf|pid|leases|told)$/.exec(file)?.[1]);
    return [...new Set(names.filter((name) => name !== undefined))];
  }

  /** Nothing is left of it, its files neither. */
  stop(bridge: string): Promise<void> {
    return this.#turn(bridge).take(async () => {
      const running = await this.#running(bridge);
      for (const pid of running ? [running.pid] : await this.#orphans(bridge)) await this.#end(pid);
      for (const file of Object.values(dhcpFiles(this.#settings.networks_path, bridge)))
        await rm(file, { force: true });
      await forgetDhcpEvents(this.#settings.networks_path, bridge);
    });
  }

  #turn(bridge: string): Turns {
    let turns = this.#turns.get(bridge);
    if (!turns) this.#turns.set(bridge, (turns = new Turns()));
    return turns;
  }

  async #start(
    network: DhcpNetworks[0],
    argv: string[],
    leased: readonly DhcpHost[],
    signal: AbortSignal,
  ): Promise<void> {
    const { networks_path, dhcp_lease_time, flagfile } = this.#settings;
    const files = dhcpFiles(networks_path, network.bridge);
    const expiry = Math.floor(clock.now().getTime() / 1000) + dhcp_lease_time;
    await writeIfOther(files.leases, leasesFile(leased, expiry));
    const env = {
      DNSMASQ_INTERFACE: network.bridge,
      NETWORK_ID: String(network.network_id),
      NETWORKS_PATH: networks_path,
      ...(flagfile === null ? {} : { FLAGFILE: flagfile }),
    };
    // As words of the command, since a root helper clears the environment. Again, where one that was killed still holds the port.
    const words = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    await needing(
      `starting dnsmasq on ${network.bridge}`,
      this.#host.run(['env', ...words, ...argv], { signal, attempts: 3 }),
    );
    this.#log.info({ bridge: network.bridge, network_id: network.network_id }, 'dnsmasq started');
  }

  /** dnsmasq gives up root after its start, and then reads the hosts file again as `nobody`: closed folders stop it. */
  async #argv(networks: DhcpNetworks): Promise<string[]> {
    const argv = dnsmasqArgv(networks, this.#settings);
    const closed = await closedFolder(this.#settings.networks_path);
    if (closed === null) return argv;
    this.#log.debug({ folder: closed }, 'dnsmasq keeps running as root: this folder is closed to other users');
    return [...argv, '--user=root'];
  }

  /** The dnsmasq of this bridge, if the process of its pid file is one: pids are used again after a restart of the host. */
  async #running(bridge: string): Promise<{ pid: number; argv: string[] } | null> {
    const files = dhcpFiles(this.#settings.networks_path, bridge);
    const pid = Number((await readText(files.pid)).trim());
    if (!Number.isInteger(pid) || pid <= 1) return null;
    const words = (await this.#host.read(`/proc/${pid}/cmdline`))?.split('\0').slice(0, -1) ?? [];
    const ours = words[0]?.endsWith('dnsmasq') === true && words.includes(`--dhcp-hostsfile=${files.hosts}`);
    return ours ? { pid, argv: words } : null;
  }

  /** Those of this bridge whose pid file is lost, as when the state folder was deleted: they would keep the port for ever. */
  async #orphans(bridge: string): Promise<number[]> {
    const hosts = dhcpFiles(this.#settings.networks_path, bridge).hosts.replace(/[^\w/-]/g, '\\$&');
    const argv = ['pgrep', '-x', '-f', '--', `([^ ]*/)?dnsmasq .*--dhcp-hostsfile=${hosts} .*`];
    const { stdout } = await this.#host.run(argv, { ok: [0, 1] });
    return stdout
      .split('\n')
      .filter((line) => line !== '')
      .map(Number);
  }

  /** Returns when it is gone: a second one cannot take the port before. @throws BackendUnavailable */
  async #end(pid: number): Promise<void> {
    for (const [name, waits] of [
      ['TERM', 40],
      ['KILL', 20],
    ] as const) {
      await this.#host.run(['kill', `-${name}`, String(pid)], { ok: [0, 1] }); // 1: it ended by itself
      for (let i = 0; i < waits; i++) {
        // A zombie's sockets are closed; an exiting process' command line is gone before them.
        if (/^State:\t[^ZX]/m.exec((await this.#host.read(`/proc/${pid}/status`)) ?? '') === null) return;
        await sleep(50);
      }
    }
    throw new BackendUnavailable(`dnsmasq ${pid} does not end, even by SIGKILL`);
  }
}

const sameWords = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((word, i) => i === 0 || word === b[i]);

const toldText = (pid: number, text: string): string => `${pid} ${createHash('sha256').update(text).digest('hex')}\n`;

const readText = async (path: string): Promise<string> =>
  readFile(path, 'utf8').catch((err: NodeJS.ErrnoException) => {
    if (err.code === 'ENOENT') return '';
    throw err;
  });

/** Whole or not at all: dnsmasq may read at any moment. @returns whether the file changed */
async function writeIfOther(path: string, text: string): Promise<boolean> {
  if (text !== '' && (await readText(path)) === text) return false;
  await writeFile(`${path}.new`, text, { mode: 0o644 });
  await rename(`${path}.new`, path);
  return true;
}

/** The first folder on the way to `path` that other users may not enter, or null. */
async function closedFolder(path: string): Promise<string | null> {
  const parent = dirname(path);
  const above = parent === path ? null : await closedFolder(parent);
  return above ?? (((await stat(path)).mode & 0o001) === 0 ? path : null);
}
