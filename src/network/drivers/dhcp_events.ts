import { mkdirSync, watch } from 'node:fs';
import { readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import { parseEvent, type DhcpEvent } from '../logic/dhcp_hosts.ts';

/**
 * What dnsmasq told nova-dhcpbridge: a file for each card, with its last event (docs/decisions/0009-dhcp-event-files.md).
 *
 *   nova-dhcpbridge ──write, rename──> nova-br100.MAC.event ──rename──> nova-br100.MAC.event.taken ──handled, deleted──>
 *
 * A file is taken before it is read, so that a newer event of the card does not go with it; one that was taken when
 * nova-network died is handled again by the next.
 */
export async function drainDhcpEvents(
  networks_path: string,
  handle: (event: DhcpEvent) => Promise<void>,
): Promise<void> {
  const files = await filesOf(networks_path);
  for (const file of files.filter((name) => name.endsWith('.event.taken')))
    await finish(join(networks_path, file), handle);
  for (const file of files.filter((name) => name.endsWith('.event'))) {
    const taken = join(networks_path, `${file}.taken`);
    if (await unlessGone(rename(join(networks_path, file), taken).then(() => true))) await finish(taken, handle);
  }
}

async function finish(taken: string, handle: (event: DhcpEvent) => Promise<void>): Promise<void> {
  const text = await unlessGone(readFile(taken, 'utf8'));
  const event = text === null ? null : parseEvent(text);
  if (event) await handle(event);
  await rm(taken, { force: true });
}

/** Another process of this host may have taken it first: nova-manage network doctor. */
const unlessGone = <T>(work: Promise<T>): Promise<T | null> =>
  work.catch((err: NodeJS.ErrnoException) => {
    if (err.code === 'ENOENT') return null;
    throw err;
  });

/** Events that wait, by their files; nothing is taken. */
export async function waitingDhcpEvents(networks_path: string): Promise<{ file: string; event: DhcpEvent }[]> {
  const found: { file: string; event: DhcpEvent }[] = [];
  for (const name of await filesOf(networks_path)) {
    if (!/\.event(\.taken)?$/.test(name)) continue;
    const file = join(networks_path, name);
    const text = await unlessGone(readFile(file, 'utf8'));
    const event = text === null ? null : parseEvent(text);
    if (event) found.push({ file, event });
  }
  return found;
}

/** Drops the events of a bridge that goes. */
export async function forgetDhcpEvents(networks_path: string, bridge: string): Promise<void> {
  const gone = (await filesOf(networks_path)).filter((name) => name.startsWith(`nova-${bridge}.`));
  for (const name of gone)
    if (/\.(event(\.taken)?|new)$/.test(name)) await rm(join(networks_path, name), { force: true });
}

async function filesOf(networks_path: string): Promise<string[]> {
  return readdir(networks_path).catch((err: NodeJS.ErrnoException) => {
    if (err.code === 'ENOENT') return [];
    throw err;
  });
}

/** Tells of each event, until the signal. What is missed is found by the next drain. */
export function watchDhcpEvents(networks_path: string, changed: () => void, log: Log, signal: AbortSignal): void {
  mkdirSync(networks_path, { recursive: true });
  const watcher = watch(networks_path, { signal, persistent: false }, (_event, file) => {
    if (file?.endsWith('.event')) changed();
  });
  watcher.on('error', (err) => {
    log.warn({ err, networks_path }, `DHCP events are looked for once a period only: ${errorText(err)}`);
  });
}
