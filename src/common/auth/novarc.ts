import type { User } from '../db/users.ts';
import type { endpointFlags } from '../core_flags.ts';
import type { FlagValues } from '../flags.ts';

/** Quoted only where a POSIX shell would read something else. */
export const shellWord = (word: string): string =>
  /^[A-Za-z0-9_./:@%+=,-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;

/** What the EC2 clients of today call our one region. */
const REGION = 'nova';

/**
 * A file for a shell to source, from any folder: the variables of 2011 (euca2ools, boto, novaclient, s3cmd's users) and
 * those of the clients of today, so that neither needs options. Source: Nova 2011.3 nova/auth/novarc.template.
 */
export function novarcText(
  user: Pick<User, 'id' | 'access_key' | 'secret_key'>,
  project_id: string,
  flags: FlagValues<typeof endpointFlags>,
): string {
  const [access, secret] = [shellWord(`${user.access_key}:${project_id}`), shellWord(user.secret_key)];
  const ec2_url = `${flags.ec2_scheme}://${flags.ec2_dmz_host}:${flags.ec2_port}${flags.ec2_path}`;
  const s3_url = `http://${flags.s3_dmz}:${flags.s3_port}`;
  const nova_url = `${flags.osapi_scheme}://${flags.osapi_host}:${flags.osapi_port}${flags.osapi_path}`;
  return `# ${user.id} in project ${project_id}. Source this: . novarc
# The folder of this file, whoever sources it: bash says it, zsh says it otherwise, a plain sh has to be in it.
if [ -n "\${BASH_SOURCE:-}" ]; then NOVARC=$(readlink -f "$BASH_SOURCE")
elif [ -n "\${ZSH_VERSION:-}" ]; then NOVARC=$(eval 'readlink -f "\${(%):-%x}"')
else NOVARC=$(readlink -f ./novarc); fi
export NOVA_KEY_DIR=$(dirname "$NOVARC")
unset NOVARC

# EC2 and S3 clients of 2011
export EC2_ACCESS_KEY=${access}
export EC2_SECRET_KEY=${secret}
export EC2_URL=${shellWord(ec2_url)}
export S3_URL=${shellWord(s3_url)}
export EC2_USER_ID=42 # nova does not use it, but the bundling tools want one
export EC2_PRIVATE_KEY=\${NOVA_KEY_DIR}/pk.pem
export EC2_CERT=\${NOVA_KEY_DIR}/cert.pem
export NOVA_CERT=\${NOVA_KEY_DIR}/cacert.pem
export EUCALYPTUS_CERT=\${NOVA_CERT} # euca-bundle-image needs it
alias ec2-bundle-image="ec2-bundle-image --cert \${EC2_CERT} --privatekey \${EC2_PRIVATE_KEY} --user 42 --ec2cert \${NOVA_CERT}"
alias ec2-upload-bundle="ec2-upload-bundle -a \${EC2_ACCESS_KEY} -s \${EC2_SECRET_KEY} --url \${S3_URL} --ec2cert \${NOVA_CERT}"

# AWS clients of today; those before 2023 (awscli 2.13, boto3 1.28) know no AWS_ENDPOINT_URL: the two aliases help there
export AWS_ACCESS_KEY_ID=\${EC2_ACCESS_KEY}
export AWS_SECRET_ACCESS_KEY=\${EC2_SECRET_KEY}
unset AWS_SESSION_TOKEN AWS_PROFILE
export AWS_DEFAULT_REGION=${REGION}
export AWS_REGION=${REGION}
export AWS_ENDPOINT_URL_EC2=\${EC2_URL}
export AWS_ENDPOINT_URL_S3=\${S3_URL}
export AWS_EC2_METADATA_DISABLED=true
alias nova-ec2="aws --endpoint-url \${EC2_URL} ec2"
alias nova-s3="aws --endpoint-url \${S3_URL} s3"

# OpenStack clients of 2011
export NOVA_API_KEY=${shellWord(user.access_key)}
export NOVA_USERNAME=${shellWord(user.id)}
export NOVA_PROJECT_ID=${shellWord(project_id)}
export NOVA_URL=${shellWord(nova_url)}
export NOVA_VERSION=1.1

# OpenStack clients of today
unset OS_CLOUD OS_TOKEN OS_AUTH_TYPE OS_PROJECT_ID OS_USER_ID
export OS_AUTH_URL=${shellWord(`http://${flags.identity_host}:${flags.identity_port}/v3`)}
export OS_IDENTITY_API_VERSION=3
export OS_USERNAME=\${NOVA_USERNAME}
export OS_PASSWORD=\${EC2_SECRET_KEY}
export OS_USER_DOMAIN_NAME=Default
export OS_PROJECT_NAME=\${NOVA_PROJECT_ID}
export OS_PROJECT_DOMAIN_NAME=Default
export OS_REGION_NAME=\${AWS_REGION}
`;
}
