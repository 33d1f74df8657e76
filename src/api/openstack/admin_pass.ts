import { randomInt } from 'node:crypto';

/** Without what is easily taken for another: 0 1 I O l. Source: Nova 2011.3 nova/utils.py, DEFAULT_PASSWORD_SYMBOLS */
const SYMBOLS = '23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';
const LENGTH = 16;

export const generatePassword = (): string =>
  Array.from({ length: LENGTH }, () => SYMBOLS[randomInt(SYMBOLS.length)]).join('');
