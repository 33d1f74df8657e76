import { actionTable, type ActionTable } from './action.ts';
import {
  allocateAddress,
  associateAddress,
  describeAddresses,
  disassociateAddress,
  releaseAddress,
} from './addresses.ts';
import type { Ec2Deps } from './deps.ts';
import {
  blockExternalAddresses,
  describeExternalAddressBlocks,
  removeExternalAddressBlock,
} from './external_address_blocks.ts';
import { describeImageAttribute, modifyImageAttribute } from './image_attributes.ts';
import { deregisterImage, describeImages, registerImage } from './images.ts';
import { describeInstanceAttribute, modifyInstanceAttribute } from './instance_attributes.ts';
import { describeInstanceTypes } from './instance_types.ts';
import {
  describeInstances,
  describeInstanceStatus,
  getConsoleOutput,
  rebootInstances,
  terminateInstances,
} from './instances.ts';
import { createKeyPair, deleteKeyPair, describeKeyPairs, importKeyPair, importPublicKey } from './key_pairs.ts';
import { modifyInstanceMetadataOptions } from './metadata_options.ts';
import { runInstances } from './run_instances.ts';
import {
  authorizeSecurityGroupIngress,
  createSecurityGroup,
  deleteSecurityGroup,
  describeSecurityGroups,
  revokeSecurityGroupIngress,
} from './security_groups.ts';
import { createSnapshot, deleteSnapshot, describeSnapshots } from './snapshots.ts';
import { getCallerIdentity } from './sts.ts';
import { attachVolume, createVolume, deleteVolume, describeVolumes, detachVolume, updateVolume } from './volumes.ts';
import { describeAvailabilityZones, describeRegions } from './zones.ts';

/** Everything that `/services/Cloud` offers. */
export const ec2Actions: ActionTable<Ec2Deps> = actionTable<Ec2Deps>([
  runInstances,
  describeInstances,
  describeInstanceStatus,
  describeInstanceAttribute,
  modifyInstanceAttribute,
  terminateInstances,
  rebootInstances,
  getConsoleOutput,
  modifyInstanceMetadataOptions,
  describeImages,
  registerImage,
  deregisterImage,
  describeImageAttribute,
  modifyImageAttribute,
  createKeyPair,
  importKeyPair,
  importPublicKey,
  describeKeyPairs,
  deleteKeyPair,
  createSecurityGroup,
  deleteSecurityGroup,
  authorizeSecurityGroupIngress,
  revokeSecurityGroupIngress,
  describeSecurityGroups,
  blockExternalAddresses,
  describeExternalAddressBlocks,
  removeExternalAddressBlock,
  allocateAddress,
  describeAddresses,
  associateAddress,
  disassociateAddress,
  releaseAddress,
  createVolume,
  describeVolumes,
  updateVolume,
  attachVolume,
  detachVolume,
  deleteVolume,
  createSnapshot,
  describeSnapshots,
  deleteSnapshot,
  describeInstanceTypes,
  describeAvailabilityZones,
  describeRegions,
  getCallerIdentity,
]);
