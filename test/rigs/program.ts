export { Program, type ProgramSpec } from '../../scripts/program.ts';
