/** What the doctor said: `what | expected | found | what is done`. */
export const said = (text: string): string[] =>
  text
    .split(/^(?=\S)/m)
    .filter((part) => part.includes('    expected: '))
    .map((part) => part.trimEnd().replace(/\n +(expected|found|--apply|to do): +/g, ' | '));
