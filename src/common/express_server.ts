import type { Express } from 'express';
import { createServer, IncomingMessage, ServerResponse, type Server, type ServerOptions } from 'node:http';

/**
 * An HTTP server for an Express app, three times as fast as `createServer(app)`.
 *
 * Express gives every request and response a prototype of the app's own. Changing the prototype of a live object makes V8
 * drop what it knows of the object's shape, for every later access: 14,000 requests/s instead of 45,000 where this was
 * measured. So the objects are born here with the prototype that Express is going to set, and setting it changes nothing.
 */
export function expressServer(app: Express, options: ServerOptions = {}): Server {
  class AppRequest extends IncomingMessage {}
  class AppResponse extends ServerResponse {}
  Object.setPrototypeOf(AppRequest.prototype, app.request);
  Object.setPrototypeOf(AppResponse.prototype, app.response);
  app.request = AppRequest.prototype as typeof app.request;
  app.response = AppResponse.prototype as typeof app.response;
  return createServer({ ...options, IncomingMessage: AppRequest, ServerResponse: AppResponse }, app);
}
