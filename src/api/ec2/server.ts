import type { Server } from 'node:http';
import { expressServer } from '../../common/express_server.ts';
import { answerMalformed } from '../../common/malformed_http.ts';
import { ec2App, newRequestId, xmlHeaders, type Ec2AppOptions } from './app.ts';
import { renderError } from './xml.ts';

/** The EC2 API as a server that does not listen yet. */
export function ec2Server<Deps>(options: Ec2AppOptions<Deps>): Server {
  const server = expressServer(ec2App(options), {
    maxHeaderSize: 64 * 1024, // a GET with 16 KB of user data fits
    headersTimeout: 10_000,
    requestTimeout: 60_000,
    connectionsCheckingInterval: 1000,
  });
  answerMalformed(server, ({ status, message }) => {
    const request_id = newRequestId();
    const code = status === 408 ? 'RequestTimeout' : 'MalformedHttpRequest';
    return { headers: xmlHeaders(request_id), body: renderError(code, message, request_id) };
  });
  return server;
}
