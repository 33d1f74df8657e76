import { runManage } from './run.ts';

/** nova-manage: commands for those who run the cloud. */
export async function main(): Promise<void> {
  // `nova-manage ... | head` closes the pipe early: that is no failure of ours.
  process.stdout.on('error', (err: NodeJS.ErrnoException) => process.exit(err.code === 'EPIPE' ? 0 : 1));
  process.exitCode = await runManage(process.argv.slice(2), {
    out: (line) => void process.stdout.write(`${line}\n`),
    warn: (line) => void process.stderr.write(`${line}\n`),
  });
}
