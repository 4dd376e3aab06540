// A WebSocket client as a pipe, as pipe.py is: by the package `ws` in Node, by Bun's own WebSocket in Bun.

import { createInterface } from "node:readline";

const WebSocket = process.versions.bun ? globalThis.WebSocket : (await import("ws")).default;
const [url, ...subprotocols] = process.argv.slice(2);
const show = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
const socket = new WebSocket(url, subprotocols);

socket.onmessage = ({ data }) => show(data);
socket.onclose = ({ code }) => {
  show(code);
  process.exitCode = 0;
};
socket.onopen = async () => {
  show("ready");
  for await (const line of createInterface({ input: process.stdin })) socket.send(JSON.parse(line));
  socket.close(1000);
};
