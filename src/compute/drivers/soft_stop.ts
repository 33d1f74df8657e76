import { defineFlags, integer } from '../../common/flags.ts';
import { pause } from './aborted.ts';

export const softStopFlags = defineFlags({
  soft_reboot_timeout: integer(60, 'Seconds a guest gets to shut down by itself before a reboot stops it', { min: 0 }),
});

const PRESS_EVERY_MS = 5000;
const LOOK_EVERY_MS = 300;

/**
 * Asks a guest to power off and waits until it did. The button is pressed again and again, since a guest that has not
 * come up yet does not notice.
 * @returns false when the time was over
 */
export async function softStop(
  guest: { press(): Promise<void>; isOff(): Promise<boolean> },
  timeout_s: number,
  signal: AbortSignal,
): Promise<boolean> {
  for (let waited_ms = 0; waited_ms < timeout_s * 1000; waited_ms += LOOK_EVERY_MS) {
    if (await guest.isOff()) return true;
    if (waited_ms % PRESS_EVERY_MS < LOOK_EVERY_MS) await guest.press();
    await pause(LOOK_EVERY_MS, signal, 'soft reboot');
  }
  return guest.isOff();
}
