/** The command line asked for text, not for work: `--help`, `--version`. Whoever runs the process prints it and ends. */
export class FlagsExit {
  readonly text: string;
  readonly code: number;
  constructor(text: string, code: number) {
    this.text = text;
    this.code = code;
  }
}
