import { lookTwice, repair } from '../network/doctor/doctor.ts';
import { doctorVerb } from './doctor.ts';

export const networkDoctor = doctorVerb(
  {
    summary: 'Compare this host and the rows about networks with what they should be',
    details:
      'Database, bridges, addresses, rules, sets, DHCP servers and taps: each difference with what was expected, what was\n' +
      'found, and what --apply does about it. Ends with 0 when nothing differs, else with 1. Use the flagfile of the\n' +
      "host's daemons; they may be running. What is not Nova's is neither compared nor touched.",
  },
  { lookTwice, repair },
);
