import { clock } from '../common/clock.ts';

/** `400 ms`, `4.1 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`. */
export function durationText(ms: number): string {
  const s = Math.max(0, ms) / 1000;
  if (s < 0.9995) return `${Math.round(ms < 0 ? 0 : ms)} ms`;
  if (s < 9.95) return `${s.toFixed(1)} s`;
  const whole = Math.round(s);
  if (whole < 60) return `${whole} s`;
  const two = (big: number, unit: string, small: number, of: string): string =>
    small === 0 ? `${big} ${unit}` : `${big} ${unit} ${small} ${of}`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return two(minutes, 'min', whole % 60, 's');
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return two(hours, 'h', minutes % 60, 'min');
  return two(Math.floor(hours / 24), 'd', hours % 24, 'h');
}

/** How long ago a UTC ISO time is. */
export const agoText = (at: string): string => `${durationText(clock.now().getTime() - Date.parse(at))} ago`;
