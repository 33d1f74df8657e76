import type { Database } from './databases.ts';
import { attachmentsContract } from './attachments_contract.ts';
import { credentialsContract } from './credentials_contract.ts';
import { fixedIpsContract } from './fixed_ips_contract.ts';
import { floatingIpsContract } from './floating_ips_contract.ts';
import { imagesContract } from './images_contract.ts';
import { instancesContract } from './instances_contract.ts';
import { jobsContract } from './jobs_contract.ts';
import { launchContract } from './launch_contract.ts';
import { peopleContract } from './people_contract.ts';
import { plansContract } from './plans_contract.ts';
import { projectNetworksContract } from './project_networks_contract.ts';
import { providerFwRulesContract } from './provider_fw_rules_contract.ts';
import { servicesContract } from './services_contract.ts';
import { volumesContract } from './volumes_contract.ts';

/** Declares every test of what holds on each database. */
export function allContracts(database: Database): void {
  instancesContract(database);
  jobsContract(database);
  launchContract(database);
  servicesContract(database);
  imagesContract(database);
  fixedIpsContract(database);
  floatingIpsContract(database);
  projectNetworksContract(database);
  plansContract(database);
  providerFwRulesContract(database);
  volumesContract(database);
  attachmentsContract(database);
  peopleContract(database);
  credentialsContract(database);
}
