import { createServer } from 'node:http';

/** The least that answers: `node bare_server.js PORT`. */
createServer((_req, res) => void res.end('here')).listen(Number(process.argv[2]), '127.0.0.1');
