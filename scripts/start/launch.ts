import { sleep } from '../../src/common/clock.ts';
import { adminContext } from '../../src/common/context.ts';
import { eventsOf } from '../../src/common/db/events.ts';
import { viewInstances, type InstanceView } from '../../src/common/db/instance_views.ts';
import { ec2InstanceId } from '../../src/common/db/instances.ts';
import { existsSync, rmSync } from 'node:fs';
import { instanceResource } from '../../src/common/rpc/contract.ts';
import type { Cloud } from './cloud.ts';
import type { OpenStackClient } from './openstack_client.ts';
import type { Progress } from './progress.ts';
import { StartError } from './start_error.ts';
import type { Mode, StateFolder } from './state_folder.ts';

/** A guest that has answered. */
export interface Guest {
  id: number;
  /** `i-0000000a` */
  ec2_id: string;
  /** Its fixed ip. */
  address: string;
  /** Where this machine reaches its TCP ports: `host:port` by the guest's port. Empty for a fake one. */
  reached_at: Record<string, string>;
}

const KEY = 'start';
const FLAVOR_TINY = '1';
const LIMITS_S = { scheduled: 60, address: 60, spawning: 300, booting: 240, answering: 120 };

/** A launch failed: which one, for nova-manage explain. */
export class LaunchFailed extends StartError {
  readonly ec2_id: string;
  constructor(ec2_id: string, message: string) {
    super(message);
    this.ec2_id = ec2_id;
  }
}

/** Launches one instance by the public API and follows it until its guest answers. @throws LaunchFailed, the signal's reason */
export async function launch(
  { cloud, state, mode, progress }: { cloud: Cloud; state: StateFolder; mode: Mode; progress: Progress },
  image_id: number,
  signal: AbortSignal,
): Promise<Guest> {
  const client = await cloud.client();
  await ensureKeyPair(client, state);
  progress.begin('asked');
  const { id } = await client.launch({ name: 'first', imageRef: image_id, flavorRef: FLAVOR_TINY, key_name: KEY });
  const ec2_id = ec2InstanceId(id);

  /** Runs a step until `found` gives something. */
  const step = async <T>(name: keyof typeof LIMITS_S, found: () => Promise<T | undefined>): Promise<T> => {
    progress.begin(name);
    for (const deadline = Date.now() + LIMITS_S[name] * 1000; ; await sleep(50, signal)) {
      const result = await found();
      if (result !== undefined) return result;
      if (Date.now() > deadline)
        throw new LaunchFailed(ec2_id, `${ec2_id} is not past '${name}' after ${LIMITS_S[name]} s`);
    }
  };
  const look = async (): Promise<InstanceView> => {
    const [instance] = await viewInstances(cloud.db, adminContext(), { ids: [id], deleted: true });
    if (!instance || instance.deleted) throw new LaunchFailed(ec2_id, `${ec2_id} was deleted while it was launched`);
    if (instance.vm_state === 'error')
      throw new LaunchFailed(ec2_id, `${ec2_id} could not be launched: ${instance.fault}`);
    const [last] = (await eventsOf(cloud.db, instanceResource(id))).slice(-1);
    const { error } = JSON.parse(last?.details ?? '{}') as { error?: string };
    if (error !== undefined) progress.note(`${last?.event}: ${error}`);
    return instance;
  };

  progress.done(
    await step('scheduled', async () => (await look()).host ?? undefined).then((host) => `${ec2_id} on ${host}`),
  );
  const address = await step('address', async () => (await look()).addresses[0]?.address);
  progress.done(address);
  await step('spawning', async () => ((await look()).vm_state === 'active' ? true : undefined));
  progress.done('');
  const console_text = () => client.console(id);
  if (mode.driver === 'fake') {
    await step('answering', async () => ((await console_text()) !== '' ? true : undefined));
    progress.done('as a fake does: its console has a line');
    return { id, ec2_id, address, reached_at: {} };
  }
  await step('booting', async () => (/TINY: ready/.test(await console_text()) ? true : undefined));
  const reached_at = mode.driver === 'libvirt' ? direct(address) : forwarded(await console_text());
  const url = `http://${reached_at['80']}/instance-id`;
  await step('answering', async () => ((await body(url, signal)) === ec2_id ? true : undefined));
  progress.done(`${url} says ${ec2_id}`);
  return { id, ec2_id, address, reached_at };
}

/** The private key is in the state folder, for its owner alone; the pair is made anew when that was lost. */
async function ensureKeyPair(client: OpenStackClient, state: StateFolder): Promise<void> {
  const file = `${KEY}.pem`;
  const known = (await client.keyPairs()).includes(KEY);
  if (known && existsSync(state.path(file))) return;
  if (known) await client.forgetKeyPair(KEY);
  rmSync(state.path(file), { force: true });
  state.write(file, await client.makeKeyPair(KEY));
}

const direct = (address: string): Record<string, string> =>
  Object.fromEntries(['80', '2222'].map((port) => [port, `${address}:${port}`]));

/** As the qemu driver tells it in the console log. */
function forwarded(console_text: string): Record<string, string> {
  const told = [...console_text.matchAll(/nova: TCP ports of this guest: (.*)/g)].at(-1)?.[1] ?? '';
  return Object.fromEntries([...told.matchAll(/(\d+) at ([\d.]+:\d+)/g)].map(([, port, at]) => [port, at]));
}

/** @returns undefined while nobody answers */
async function body(url: string, signal: AbortSignal): Promise<string | undefined> {
  try {
    const answer = await fetch(url, { signal: AbortSignal.any([signal, AbortSignal.timeout(3000)]) });
    return answer.ok ? (await answer.text()).trim() : undefined;
  } catch {
    signal.throwIfAborted();
    return undefined;
  }
}
