/* The chat room as the README of `ws` for Node writes it: for each client that is open, client.send().
 *
 * The library frames the text for each member and switches Nagle's algorithm off itself. Compression is off by default.
 * It does NOT: store, number, ping, bound what waits for a slow member, or reuse a frame.
 *
 *     npm ci && node ws.mjs --port=8889
 */
import { parseArgs } from "node:util";
import WebSocket, { WebSocketServer } from "ws";

const { values: options } = parseArgs({ options: { port: { type: "string", default: "8889" } } });
const rooms = new Map();
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(options.port), path: "/ws" });

server.on("connection", (member, request) => {
  const name = new URL(request.url, "http://localhost").searchParams.get("room") ?? "default";
  if (!rooms.has(name)) rooms.set(name, new Set());
  const room = rooms.get(name);
  room.add(member);

  member.on("message", (text, isBinary) => {
    for (const client of room) {
      if (client.readyState === WebSocket.OPEN) client.send(text, { binary: isBinary });
    }
  });
  member.on("close", () => room.delete(member));
  member.on("error", () => {}); // a member who vanishes: "close" follows
});

server.on("listening", () => console.log(`http://localhost:${server.address().port}/`));
