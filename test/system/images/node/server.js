const { createServer } = require('node:http');
const { createHash } = require('node:crypto');

const body = `node ${createHash('sha256').update('orca').digest('hex').slice(0, 16)}\n`;
const server = createServer((request, response) => response.end(body));
server.listen(Number(process.env.PORT), '127.0.0.1', () => console.log('listening'));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
