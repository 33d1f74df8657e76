import { readFile, statfs } from 'node:fs/promises';
import { arch, cpus, totalmem } from 'node:os';
import type { HostResources } from './driver.ts';

const GIB = 1024 ** 3;
const ARCH: Record<string, string> = { x64: 'x86_64', arm64: 'aarch64', ia32: 'i686' };

/** What this host has for guests; `instances_path` says on which file system. `hypervisor_version`: 7002000 for 7.2.0. */
export async function hostResources(instances_path: string, hypervisor_version: number): Promise<HostResources> {
  const disk = await statfs(instances_path);
  return {
    vcpus: cpus().length,
    memory_mb: Math.floor(totalmem() / 1024 ** 2),
    local_gb: Math.floor((disk.blocks * disk.bsize) / GIB),
    hypervisor_type: 'QEMU',
    hypervisor_version,
    cpu_info: JSON.stringify(await cpuInfo()),
  };
}

async function cpuInfo() {
  const text = await readFile('/proc/cpuinfo', 'utf8');
  const field = (name: string) => new RegExp(`^${name}\\s*:\\s*(.*)$`, 'm').exec(text)?.[1] ?? '';
  const sockets = new Set(text.match(/^physical id\s*:.*$/gm) ?? ['one']).size;
  const cores = Number(field('cpu cores')) || Math.max(1, Math.floor(cpus().length / sockets));
  return {
    arch: ARCH[arch()] ?? arch(),
    model: field('model name'),
    vendor: field('vendor_id'),
    topology: { cores, sockets, threads: Math.max(1, Math.floor(cpus().length / (sockets * cores))) },
    features: field('flags').split(' ').filter(Boolean),
  };
}

/** `7.2.22` as 7002022, libvirt's way to write a version as a number; 0 when there is none in the text. */
export function versionNumber(text: string): number {
  const [, major, minor, micro = '0'] = /(\d+)\.(\d+)(?:\.(\d+))?/.exec(text) ?? [];
  return major === undefined ? 0 : Number(major) * 1_000_000 + Number(minor) * 1000 + Number(micro);
}
