/* The chat room as the manual of Bun writes it: subscribe() on open, publish() on a message; the loop is native code.
 *
 * Members get what they say themselves, too (`publishToSelf`). Bun frames a text once, gathers what is published within
 * a turn of its loop, pings by itself, and drops messages (without a word) for a member who lags 16 MiB behind.
 * It does NOT: store, number, or tell a member that he missed something. Compression is off by default.
 *
 *     bun bun.js --port=8889
 */
import { parseArgs } from "node:util";

const { values: options } = parseArgs({ args: Bun.argv.slice(2), options: { port: { type: "string", default: "8889" } } });

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(options.port),
  fetch(request, server) {
    const room = new URL(request.url).searchParams.get("room") ?? "default";
    if (!server.upgrade(request, { data: { room } })) return new Response("a WebSocket is expected here", { status: 426 });
  },
  websocket: {
    publishToSelf: true,
    open(member) {
      member.subscribe(member.data.room);
    },
    message(member, text) {
      member.publish(member.data.room, text);
    },
  },
});

console.log(`http://localhost:${server.port}/`);
