import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../test/rigs/free_port.ts';
import { Program } from '../test/rigs/program.ts';
import { atEnd, tempDir, type Scope } from '../test/rigs/tmp.ts';

/** A web server over a new folder that takes GET and PUT, with one process and a line in a log for each request, as we have. @returns its origin */
export async function startNginx(scope: Scope, program: string): Promise<string> {
  const dir = tempDir(scope, 'nginx');
  const port = await freePort();
  mkdirSync(join(dir, 'www'));
  writeFileSync(join(dir, 'nginx.conf'), configuration(dir, port));
  const argv = [program, '-p', dir, '-e', 'stderr', '-c', join(dir, 'nginx.conf')];
  const server = new Program({ name: 'nginx', argv, log: join(dir, 'nginx.log') });
  atEnd(scope, () => server.kill());
  const origin = `http://127.0.0.1:${port}`;
  await server.start(() => fetch(origin).then((answer) => answer.text().then(() => true)));
  return origin;
}

const TEMPORARY = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];

const configuration = (dir: string, port: number): string => `
daemon off;
master_process off;
error_log stderr warn;
pid ${dir}/nginx.pid;
events { worker_connections 256; }
http {
  access_log ${dir}/access.log;
  ${TEMPORARY.map((name) => `${name}_temp_path ${dir}/${name};`).join('\n  ')}
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  client_max_body_size 0;
  server {
    listen 127.0.0.1:${port};
    root ${dir}/www;
    dav_methods PUT;
    create_full_put_path on;
  }
}
`;
