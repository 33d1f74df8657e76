/** Dotted IPv4 as an unsigned number, and back. */
export const ipv4Number = (dotted: string): number =>
  dotted.split('.').reduce((number, part) => number * 256 + Number(part), 0);

export const ipv4Text = (number: number): string =>
  [24, 16, 8, 0].map((shift) => Math.floor(number / 2 ** shift) % 256).join('.');
