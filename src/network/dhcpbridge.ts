import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { errorText } from '../common/errors.ts';
import { FlagsExit, loadFlags } from '../common/flags.ts';
import { dhcpFlags } from './drivers/dhcp_flags.ts';
import { dhcpFiles, eventFile, parseEvent } from './logic/dhcp_hosts.ts';

/**
 * `FLAGFILE=... DNSMASQ_INTERFACE=br100 nova-dhcpbridge [flags] add|old|del MAC ADDRESS [NAME]`, or `init`: the same as
 * bin/nova-dhcpbridge does by itself for our dnsmasq, for a caller that names a flagfile and not the folder.
 * What goes wrong is said and harmless: leases are a cache, and each renewal tells again.
 * Source: Nova 2011.2 bin/nova-dhcpbridge.
 */
export async function main(argv: readonly string[]): Promise<void> {
  const { FLAGFILE, DNSMASQ_INTERFACE } = process.env;
  try {
    const flagfile = FLAGFILE !== undefined && existsSync(FLAGFILE) ? FLAGFILE : undefined;
    const given = loadFlags(argv, { binary: 'nova-dhcpbridge', flagfile });
    const flags = given.read(dhcpFlags);
    const [action, mac, address, name] = given.rest;
    const bridge = DNSMASQ_INTERFACE ?? flags.dnsmasq_interface;
    if (action === 'add' || action === 'old' || action === 'del') {
      const text = [action, mac, address, name ?? ''].join(' ');
      const event = parseEvent(text);
      if (!event) throw new Error(`'${text}' is no lease: ${action} MAC ADDRESS [NAME]`);
      const written = eventFile(flags.networks_path, bridge, event.mac, 'new');
      writeFileSync(written, `${text}\n`);
      renameSync(written, eventFile(flags.networks_path, bridge, event.mac, 'event'));
      return;
    }
    if (action !== 'init') throw new Error(`'${action ?? ''}' is not one of add, old, del, init`);
    const { leases } = dhcpFiles(flags.networks_path, bridge);
    if (existsSync(leases)) process.stdout.write(readFileSync(leases, 'utf8'));
  } catch (err) {
    if (err instanceof FlagsExit) {
      process.stdout.write(err.text);
      process.exitCode = err.code;
      return;
    }
    process.stderr.write(`nova-dhcpbridge: ${errorText(err)}\n`);
  }
}
