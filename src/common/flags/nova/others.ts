import { hostname } from 'node:os';
import { boolean, computedString, defineFlags, float, integer, list, string } from '../define.ts';
import { beside } from './beside.ts';

/** What the APIs, tools and other drivers declared in Nova 2011.2 (Cactus). */
export const cactusOtherFlags = defineFlags({
  // bin/nova-ajax-console-proxy
  ajax_console_idle_timeout: integer(300, 'Seconds of inactivity before an ajax token is dropped'),
  // bin/nova-dhcpbridge
  dnsmasq_interface: string('br0', 'Bridge to use for lease listing if DNSMASQ_INTERFACE is unset'),
  // bin/nova-direct-api
  direct_host: string('0.0.0.0', 'Bind address of the Direct API'),
  direct_port: integer(8001, 'Port of the Direct API'),
  // bin/nova-vncproxy
  vnc_debug: boolean(false, 'VNC proxy: take host and port from the query string, no token check'),
  vnc_token_ttl: integer(300, 'Seconds a VNC token lives'),
  vncproxy_host: string('0.0.0.0', 'Bind address of the VNC proxy'),
  vncproxy_manager: string('nova.vnc.auth.VNCProxyAuthManager', 'Manager class behind topic vncproxy'),
  vncproxy_port: integer(6080, 'Port of the VNC proxy'),
  vncproxy_wwwroot: string('/var/lib/nova/noVNC/', 'Directory of noVNC; must contain vnc_auto.html'),
  // bin/stack
  port: integer(8001, "'stack' CLI: Direct API port"),
  project: string('proj1', "'stack' CLI: project"),
  user: string('user1', "'stack' CLI: user"),
  // nova/api/ec2/__init__.py
  lockout_attempts: integer(5, 'Failed EC2 logins before an access key is locked'),
  lockout_memcached_servers: list([], 'Memcached list for the lockout counters (in-process if none)'),
  lockout_minutes: integer(15, 'Length of the lockout'),
  lockout_window: integer(15, 'Minutes in which the failures are counted'),
  use_forwarded_for: boolean(false, 'Trust X-Forwarded-For as the client address'),
  // nova/api/openstack/__init__.py
  allow_admin_api: boolean(false, 'Expose admin resources in the OpenStack API'),
  // nova/auth/ldapdriver.py
  ldap_cloudadmin: string('cn=cloudadmins,ou=Groups,dc=example,dc=com', 'DN of the cloudadmin role group'),
  ldap_developer: string('cn=developers,ou=Groups,dc=example,dc=com', 'DN of the developer role group'),
  ldap_itsec: string('cn=itsec,ou=Groups,dc=example,dc=com', 'DN of the itsec role group'),
  ldap_netadmin: string('cn=netadmins,ou=Groups,dc=example,dc=com', 'DN of the netadmin role group'),
  ldap_password: string('changeme', 'Bind password'),
  ldap_project_subtree: string('ou=Groups,dc=example,dc=com', 'DN under which projects live'),
  ldap_schema_version: integer(2, 'Attribute layout, 1 or 2'),
  ldap_sysadmin: string('cn=sysadmins,ou=Groups,dc=example,dc=com', 'DN of the sysadmin role group'),
  ldap_url: string('ldap://localhost', 'LDAP server'),
  ldap_user_dn: string('cn=Manager,dc=example,dc=com', 'Bind DN'),
  ldap_user_id_attribute: string('uid', 'Attribute used as user id'),
  ldap_user_modify_only: boolean(false, 'Only add Nova attributes to existing users, never create or delete them'),
  ldap_user_name_attribute: string('cn', 'Attribute used as user name'),
  ldap_user_subtree: string('ou=Users,dc=example,dc=com', 'DN under which users live'),
  ldap_user_unit: string('Users', 'OU of the users'),
  role_project_subtree: string('ou=Groups,dc=example,dc=com', 'DN under which per-project roles live'),
  // nova/auth/manager.py
  allowed_roles: list(['cloudadmin', 'itsec', 'sysadmin', 'netadmin', 'developer'], 'Role names that may be granted'),
  auth_driver: string('nova.auth.dbdriver.DbDriver', 'User/project back end class'),
  credential_cert_file: string('cert.pem', 'Certificate file name inside the credential zip'),
  credential_key_file: string('pk.pem', 'Private key file name inside the zip'),
  credential_rc_file: string('%src', 'Name of the rc file inside the zip; %s is the project (result e.g. novarc)'),
  credential_vpn_file: string('nova-vpn.conf', 'OpenVPN config file name inside the zip'),
  credentials_template: beside('auth/novarc.template', 'Template of the rc file'),
  global_roles: list(['cloudadmin', 'itsec'], 'Roles that apply to all projects'),
  superuser_roles: list(['cloudadmin'], 'Roles that bypass authorisation checks'),
  vpn_client_template: beside('cloudpipe/client.ovpn.template', 'Template of the openvpn client config'),
  // nova/cloudpipe/pipelib.py
  boot_script_template: beside('cloudpipe/bootscript.template', 'Boot script put in the cloudpipe payload'),
  dmz_mask: string('255.255.255.0', 'Netmask pushed to VPN clients'),
  dmz_net: string('10.0.0.0', 'Network pushed to VPN clients'),
  // nova/compute/monitor.py
  monitoring_instances_delay: integer(5, 'Instance monitor: seconds between scans'),
  monitoring_instances_step: integer(300, 'Instance monitor: RRD step and minimum age for an update'),
  monitoring_rrd_path: string('$state_path/monitor/instances', 'Instance monitor: RRD directory'),
  // nova/console/manager.py
  console_driver: string('nova.console.xvp.XVPConsoleProxy', 'Console proxy driver class'),
  console_public_hostname: computedString('the host name', hostname, 'Name published in console URLs'),
  stub_compute: boolean(false, 'Console manager: use canned pool data instead of asking compute'),
  // nova/console/vmrc.py
  console_vmrc_error_retries: integer(10, 'VMRC lookups to try'),
  console_vmrc_port: integer(443, 'VMRC port'),
  // nova/console/xvp.py
  console_xvp_conf: string('/etc/xvp.conf', 'Generated xvp config file'),
  console_xvp_conf_template: beside('console/xvp.conf.template', 'Template of the xvp config file'),
  console_xvp_log: string('/var/log/xvp.log', 'Log file of xvp'),
  console_xvp_multiplex_port: integer(5900, 'Port shared by all xvp consoles'),
  console_xvp_pid: string('/var/run/xvp.pid', 'Pid file of xvp'),
  // nova/crypto.py
  ca_file: string('cacert.pem', 'CA certificate file name (relative to ca_path)'),
  ca_path: string('$state_path/CA', 'CA directory'),
  crl_file: string('crl.pem', 'Revocation list file name'),
  key_file: string('private/cakey.pem', 'CA private key path, relative'),
  keys_path: string('$state_path/keys', 'Directory for generated key files'),
  project_cert_subject: string(
    '/C=US/ST=California/L=MountainView/O=AnsoLabs/OU=NovaDev/CN=project-ca-%s-%s',
    'Subject of a project CA (project, timestamp)',
  ),
  use_project_ca: boolean(false, 'One intermediate CA per project'),
  user_cert_subject: string(
    '/C=US/ST=California/L=MountainView/O=AnsoLabs/OU=NovaDev/CN=%s-%s-%s',
    'Subject of a user certificate (project, user, timestamp)',
  ),
  vpn_cert_subject: string(
    '/C=US/ST=California/L=MountainView/O=AnsoLabs/OU=NovaDev/CN=project-vpn-%s-%s',
    'Subject of a VPN server certificate (project, timestamp)',
  ),
  // nova/image/local.py
  images_path: string('$state_path/images', 'Local image service directory'),
  // nova/image/s3.py
  image_decryption_dir: string('/tmp', 'Parent of temporary directories for bundle decryption'),
  // nova/objectstore/s3server.py
  buckets_path: string('$state_path/buckets', 'Object store bucket directory'),
  // nova/quota.py
  quota_cores: integer(20, 'VCPUs per project'),
  quota_floating_ips: integer(10, 'Floating ips per project'),
  quota_gigabytes: integer(1000, 'Volume gigabytes per project'),
  quota_instances: integer(10, 'Instances per project'),
  quota_max_injected_file_content_bytes: integer(10240, 'Bytes per injected file'),
  quota_max_injected_file_path_bytes: integer(255, 'Bytes per injected path'),
  quota_max_injected_files: integer(5, 'Files per server'),
  quota_metadata_items: integer(128, 'Metadata pairs per instance'),
  quota_volumes: integer(10, 'Volumes per project'),
  // nova/scheduler/api.py
  enable_zone_routing: boolean(false, 'Forward unknown instances to child zones'),
  // nova/scheduler/zone_manager.py
  zone_db_check_interval: integer(60, 'Seconds between reloads of the zones table'),
  zone_failures_to_offline: integer(3, 'Consecutive poll errors before a zone is inactive'),
  // nova/test.py
  fake_tests: boolean(true, 'Unit tests: use fakes'),
  sqlite_clean_db: string('clean.sqlite', 'Unit tests: pristine database file'),
  // nova/virt/vmwareapi/vim.py
  vmwareapi_wsdl_loc: string(null, 'WSDL location'),
  // nova/virt/vmwareapi_conn.py
  vmwareapi_api_retry_count: float(10, 'API retries'),
  vmwareapi_host_ip: string(null, 'ESX host'),
  vmwareapi_host_password: string(null, 'ESX password'),
  vmwareapi_host_username: string(null, 'ESX user'),
  vmwareapi_task_poll_interval: float(5.0, 'Task polling seconds'),
  vmwareapi_vlan_interface: string('vmnic0', 'NIC for VLANs'),
  // nova/virt/xenapi/vm_utils.py
  block_device_creation_timeout: integer(10, 'Seconds to wait for a block device'),
  default_os_type: string('linux', 'OS type when the image has none'),
  // nova/virt/xenapi_conn.py
  iqn_prefix: string('iqn.2010-10.org.openstack', 'iSCSI name prefix (xenapi)'),
  target_host: string(null, 'iSCSI target host (xenapi)'),
  target_port: string('3260', 'iSCSI target port (xenapi)'),
  xenapi_agent_path: string('usr/sbin/xe-update-networking', 'Path of the guest agent; present means no injection'),
  xenapi_connection_password: string(null, 'XenServer password'),
  xenapi_connection_url: string(null, 'XenServer URL'),
  xenapi_connection_username: string('root', 'XenServer user'),
  xenapi_image_service: string('glance', 'Image service: glance or objectstore'),
  xenapi_inject_image: boolean(true, 'Inject key/network into images'),
  xenapi_login_timeout: integer(10, 'Seconds to wait for a login'),
  xenapi_remap_vbd_dev: boolean(false, 'Rename VBD devices'),
  xenapi_remap_vbd_dev_prefix: string('sd', 'Prefix for the renaming'),
  xenapi_sr_base_path: string('/var/run/sr-mount', 'Storage repository mount root'),
  xenapi_task_poll_interval: float(0.5, 'Task polling seconds'),
  xenapi_vhd_coalesce_max_attempts: integer(5, 'Polls while waiting for VHD coalesce'),
  xenapi_vhd_coalesce_poll_interval: float(5.0, 'Seconds between those polls'),
  // nova/vnc/__init__.py
  vnc_enabled: boolean(true, 'Add a VNC graphics device to guests'),
  vncproxy_topic: string('vncproxy', "Queue of the VNC proxy's token manager"),
  vncproxy_url: string('http://127.0.0.1:6080', 'Public base URL of the VNC proxy'),
  vncserver_host: string('0.0.0.0', "Address guests' VNC servers bind"),
});
