// Answers the Redis command INCR, whatever the key: each five lines are one request.
const net = require("node:net");

let counter = 0;
net.createServer((connection) => {
  let lines = 0;
  connection.on("data", (data) => {
    for (const byte of data) {
      if (byte === 10 && ++lines % 5 === 0) connection.write(`:${++counter}\r\n`);
    }
  });
  connection.on("error", (error) => console.error(error.message));
}).listen(6379);
