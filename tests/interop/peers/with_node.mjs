// Node's built-in WebSocket: Node 22 has it, Node 20.10 with --experimental-websocket. Before that, the package
// `undici`, from which Node has it.

import { createInterface } from "node:readline";
import { Conversations } from "./websocket_api.mjs";

const WebSocket = globalThis.WebSocket ?? (await import("undici")).WebSocket;
const conversations = new Conversations(WebSocket, (event) => console.log(JSON.stringify(event)));
createInterface({ input: process.stdin }).on("line", (line) => conversations.perform(JSON.parse(line)));
