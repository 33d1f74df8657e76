import { parseArgs } from 'node:util';
import { once } from 'node:events';
import { errorText, NovaError } from '../src/common/errors.ts';
import { Cloud } from './start/cloud.ts';
import { farewell } from './start/farewell.ts';
import { freeBridge, freeRange, readSysctls } from './start/host_network.ts';
import { launch, LaunchFailed } from './start/launch.ts';
import { chooseMode, DRIVERS, type Choice } from './start/mode.ts';
import { Progress } from './start/progress.ts';
import { leftOvers, novaRules } from './start/left_overs.ts';
import { manage } from './start/seed.ts';
import { StartError } from './start/start_error.ts';
import { StateFolder, type Mode, type Run } from './start/state_folder.ts';

/**
 * `npm start`: a cloud on this machine from nothing, with one instance that answers; Ctrl-C ends all of it.
 *
 *   --check            ends by itself, with 0 once the guest has answered
 *   --driver=DRIVER    libvirt, qemu or fake, where not the most that is possible
 *
 *   mode ─> (end what an earlier start left) ─> run.json ─> database ─> libvirtd ─> nova-all ─> launch ─> wait
 *   any failure, Ctrl-C, SIGTERM ─────────────────────────────────> guests, daemons, network, libvirtd away ─> run.json away
 */
async function main(): Promise<number> {
  const { check, driver } = readArguments();
  process.env['PATH'] = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`; // a plain user's has none of them
  const progress = new Progress();
  const interrupted = stopSignal(progress);
  try {
    const state = new StateFolder();
    const { mode, why_not } = await progress.run('machine', () => chooseMode(state, driver), modeText);
    for (const line of why_not) progress.say(`      ${line}`);
    if (mode.driver === 'fake') progress.say(FAKE);
    await endLeftRun(state, progress);
    const code = await upAndDown({ state, mode, progress, check, interrupted });
    return interrupted.aborted && check ? 130 : code;
  } catch (err) {
    progress.say(`\n${textOf(err)}`);
    return 1;
  }
}

const modeText = ({ mode }: Choice): string => {
  if (mode.driver === 'fake') return 'fake guests';
  const processor = mode.accel === 'kvm' ? 'KVM' : 'emulated processor';
  if (mode.driver === 'qemu') return `QEMU of this user, ${processor}`;
  return `libvirt, ${mode.libvirtd === 'own' ? 'a libvirtd of our own' : "this machine's libvirtd"}, ${processor}`;
};

const FAKE = `
  *****************************************************************************
  *  NO REAL GUESTS: this machine, or this user, can run none (see above).    *
  *  All else is real: APIs, scheduler, database; guests are only said to run.*
  *****************************************************************************
`;

/** What went wrong on purpose is told; what did not is a bug, with its stack. */
const textOf = (err: unknown): string =>
  err instanceof StartError || err instanceof NovaError ? err.message : ((err as Error).stack ?? String(err));

/** A start that was killed left guests, rules and more: they go first. */
async function endLeftRun(state: StateFolder, progress: Progress): Promise<void> {
  const left = state.leftRun();
  if (left === undefined) return;
  progress.say('  The start before did not end in order; ending what it left:');
  await new Cloud(state, left, progress).end();
}

interface Session {
  state: StateFolder;
  mode: Mode;
  progress: Progress;
  check: boolean;
  interrupted: AbortSignal;
}

/** Starts the cloud, keeps it until it is to end, and ends it, whatever happened. @returns the exit code */
async function upAndDown(session: Session): Promise<number> {
  const { state, mode, progress, interrupted } = session;
  const rules_before = await novaRules();
  const run: Run = { mode, network: { cidr: freeRange(), bridge: freeBridge() }, sysctls: readSysctls() };
  state.writeRun(run);
  const cloud = new Cloud(state, run, progress);
  let code = 0;
  try {
    await up(session, cloud);
  } catch (err) {
    progress.failed();
    if (!interrupted.aborted) {
      progress.say(`\n${textOf(err)}`);
      code = 1;
    }
  }
  progress.say('');
  await cloud.end();
  const left = await leftOvers(state, run, rules_before);
  if (left.length > 0)
    throw new StartError(`This is left, and should not be:\n${left.map((line) => `    ${line}`).join('\n')}`);
  progress.say(`  Nothing is left but ${state.dir}, which makes the next start quick.`);
  return code;
}

/** @throws what hindered it, or the signal's reason */
async function up({ state, mode, progress, check, interrupted }: Session, cloud: Cloud): Promise<void> {
  const image_id = await cloud.start(interrupted);
  const died = cloud.died().then((words) => {
    throw new StartError(words);
  });
  died.catch(() => undefined); // it is meant to, once it is stopped
  const guest = await Promise.race([launch({ cloud, state, mode, progress }, image_id, interrupted), died]).catch(
    async (err: unknown) => {
      progress.failed();
      if (err instanceof LaunchFailed) progress.say(`\n${await manage(state, 'explain', err.ec2_id)}`);
      throw err;
    },
  );
  progress.say(farewell(cloud, state, mode, guest));
  if (check || interrupted.aborted) return;
  progress.say('\nCtrl-C ends everything.');
  await Promise.race([once(interrupted, 'abort'), died]);
}

function readArguments(): { check: boolean; driver?: Mode['driver'] } {
  try {
    const { values } = parseArgs({ options: { check: { type: 'boolean' }, driver: { type: 'string' } } });
    const driver = DRIVERS.find((name) => name === values.driver);
    if (values.driver !== undefined && driver === undefined) throw new Error(`--driver=${values.driver}`);
    return { check: values.check ?? false, ...(driver ? { driver } : {}) };
  } catch (err) {
    console.error(`${errorText(err)}\nusage: npm start [-- --check] [-- --driver=${DRIVERS.join('|')}]`);
    process.exit(2);
  }
}

/** npm hands on a Ctrl-C that this process, of the same terminal, had already: what comes so soon is the same one. */
const SAME_SIGNAL_MS = 400;

/** Aborted by the first Ctrl-C; the second ends this process at once, and the programs it started with it. */
function stopSignal(progress: Progress): AbortSignal {
  const stop = new AbortController();
  let first_ms = 0;
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(name, () => {
      if (stop.signal.aborted && performance.now() - first_ms < SAME_SIGNAL_MS) return;
      if (stop.signal.aborted) process.exit(130);
      first_ms = performance.now();
      progress.say('\nEnding everything; once more ends at once, and leaves the rest to the next npm start');
      stop.abort(new StartError(`ended by ${name}`));
    });
  process.stdout.on('error', () => undefined); // a terminal that was closed
  return stop.signal;
}

process.exit(await main());
