import { createServer, type Server } from 'node:http';
import { answerMalformed } from '../../common/malformed_http.ts';
import { metadataHandler, type MetadataDeps } from './app.ts';

/** The metadata service as a server that does not listen yet. */
export function metadataServer(deps: MetadataDeps): Server {
  const server = createServer(
    { headersTimeout: 10_000, requestTimeout: 60_000, connectionsCheckingInterval: 1000 },
    metadataHandler(deps),
  );
  answerMalformed(server, ({ message }) => ({ headers: { 'Content-Type': 'text/plain' }, body: message }));
  return server;
}
