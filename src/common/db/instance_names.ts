/** For people: `i-0000000a`. */
export const ec2InstanceId = (id: number): string => `i-${id.toString(16).padStart(8, '0')}`;
