import type { Figure } from './figure.ts';

const HEAD = ['name', 'value', 'unit', 'limit', 'ratio', 'floor', 'ok'];

/** Columns as wide as their widest cell; names to the left, numbers to the right. */
export function table(figures: readonly Figure[]): string {
  const rows = [HEAD, ...figures.map(cells)];
  const widths = HEAD.map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) =>
        column === 0 || column === 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd();
  return rows.map(line).join('\n');
}

const cells = ({ name, value, unit, limit, ratio, floor, ok }: Figure): string[] => [
  name,
  short(value),
  unit,
  limit === null ? '' : short(limit),
  ratio === null ? '' : ratio.toFixed(2),
  floor === null ? '' : String(floor),
  ok === null ? '' : ok ? 'ok' : 'MISSED',
];

/** Three digits, and whole numbers whole. */
export const short = (number: number): string =>
  Math.abs(number) >= 100 || Number.isInteger(number) ? String(Math.round(number)) : number.toPrecision(3);
