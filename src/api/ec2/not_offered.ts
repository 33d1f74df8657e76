const REBOOT = 'RebootInstances starts an instance that stopped by itself, TerminateInstances ends one';
const TAGS = 'an instance and a volume have the tags of their launch, by TagSpecification; nothing else has any';
const NO_VPC = 'instances are in the networks of their project, which the operator makes';
const EGRESS = 'what an instance sends is not filtered; groups have rules for what it is sent';

/** What Nova's clients and today's ask for and this server has not, and what to do instead. */
export const NOT_OFFERED: ReadonlyMap<string, string> = new Map([
  ['StopInstances', REBOOT],
  ['StartInstances', REBOOT],
  ['RescueInstance', REBOOT],
  ['UnrescueInstance', REBOOT],
  ['UpdateInstance', 'PUT /servers/ID of the OpenStack API renames a server'],
  ['CreateImage', 'RegisterImage makes an image of a file in a bucket, CreateSnapshot keeps the bytes of a volume'],
  ['CopyImage', 'there is one region, and an image is in all of it'],
  ['UpdateImage', 'PUT /images/ID of the image API changes an image'],
  ['ResetImageAttribute', 'ModifyImageAttribute makes an image public or private'],
  ['GetAjaxConsole', 'GetConsoleOutput shows what a guest wrote to its console'],
  ['GetVncConsole', 'GetConsoleOutput shows what a guest wrote to its console'],
  ['CreateTags', TAGS],
  ['DeleteTags', TAGS],
  ['DescribeTags', TAGS],
  ['ModifyVolume', 'a volume keeps its size; make a larger one of its snapshot'],
  ['DescribeVpcs', NO_VPC],
  ['DescribeSubnets', NO_VPC],
  ['DescribeNetworkInterfaces', NO_VPC],
  ['AuthorizeSecurityGroupEgress', EGRESS],
  ['RevokeSecurityGroupEgress', EGRESS],
]);
