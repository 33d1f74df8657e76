import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { execute } from '../../src/common/execute.ts';
import { allPids, readProc } from '../proc.ts';
import { isThere } from './mode.ts';
import type { Run, StateFolder } from './state_folder.ts';

const PROGRAMS = /^(qemu-system-\S+|dnsmasq|libvirtd|tgtd|node)$/;

/** Rules and chains of nova daemons on this machine; another cloud may have some too. */
export async function novaRules(): Promise<string[]> {
  if (process.getuid?.() !== 0 || !isThere('iptables-save')) return [];
  const { stdout } = await execute(['iptables-save']);
  return stdout
    .split('\n')
    .filter((line) => /\bnova-/.test(line))
    .map((line) => line.replace(/\[\d+:\d+\]/, '')); // counters
}

/** What is still on this machine of a run that has ended: lines for people, best none. @param rules_before it began */
export async function leftOvers(state: StateFolder, run: Run, rules_before: readonly string[]): Promise<string[]> {
  const { bridge } = run.network;
  const real = run.mode.driver === 'libvirt';
  return [
    ...(real && existsSync(`/sys/class/net/${bridge}`) ? [`the bridge ${bridge}`] : []),
    ...(await novaRules()).filter((rule) => !rules_before.includes(rule)).map((rule) => `the rule ${rule}`),
    ...processes(state.dir).map(({ pid, argv }) => `process ${pid}: ${argv.slice(0, 3).join(' ')}`),
  ];
}

/** Programs such as ours that name the state folder, this one aside. */
function processes(dir: string): { pid: number; argv: string[] }[] {
  return allPids()
    .filter((pid) => pid !== process.pid)
    .map((pid) => ({ pid, argv: readProc(pid, 'cmdline').split('\0') }))
    .filter(({ argv }) => PROGRAMS.test(basename(argv[0] ?? '')) && argv.some((word) => word.includes(`${dir}/`)));
}
