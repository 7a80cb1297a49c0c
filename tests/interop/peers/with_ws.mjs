// The package `ws`, both sides: see commands.py.

import { readFileSync } from "node:fs";
import { createServer as createPlain } from "node:http";
import { createServer as createSecure } from "node:https";
import { createInterface } from "node:readline";
import { WebSocket, WebSocketServer } from "ws";

const COMPRESSES_ALL = { threshold: 0 };
const connections = new Map();
const servers = new Map();

createInterface({ input: process.stdin }).on("line", (line) => perform(JSON.parse(line)));

function perform(command) {
  const { do: what, of } = command;
  const connection = connections.get(of);
  if (what === "listen") {
    listen(command);
  } else if (what === "connect") {
    connect(command);
  } else if (what === "send") {
    send(connection, command.text ?? command.binary.map((piece) => Buffer.from(piece, "base64")));
  } else if (what === "ping") {
    connection.ping(Buffer.from(command.payload, "base64"));
  } else if (what === "close") {
    connection.close(...(command.code === null ? [] : [command.code, command.reason]));
  } else if (what === "forget") {
    connections.delete(of);
    servers.get(of)?.close();
    servers.delete(of);
  } else {
    throw new Error(`unknown: ${what}`);
  }
}

function tell(of, event, about) {
  console.log(JSON.stringify({ of, event, ...about }));
}

function listen({ of, terms }) {
  const [cert, key] = (terms.tls ?? []).map((path) => readFileSync(path));
  const server = cert ? createSecure({ cert, key }) : createPlain();
  const sockets = new WebSocketServer({
    server,
    perMessageDeflate: compression(terms),
    handleProtocols: (offered) => (terms.subprotocols ?? []).find((name) => offered.has(name)) ?? false,
    verifyClient: (about, decide) => decide(!terms.refusal, ...(terms.refusal ?? [])),
  });
  sockets.on("connection", (connection) => opened(of, connection));
  server.listen(0, "127.0.0.1", () => tell(of, "listening", { port: server.address().port }));
  servers.set(of, server);
}

function connect({ of, url, terms }) {
  const connection = new WebSocket(url, terms.subprotocols ?? [], {
    perMessageDeflate: compression(terms),
    ca: terms.tls && readFileSync(terms.tls[0]),
  });
  connection.on("open", () => opened(of, connection));
  connection.on("unexpected-response", (request, response) => {
    const pieces = [];
    response.on("data", (piece) => pieces.push(piece));
    response.on("end", () => tell(of, "refused", { status: response.statusCode, body: `${Buffer.concat(pieces)}` }));
  });
  connection.on("error", (error) => console.error(`${error}`)); // `close` follows
}

function opened(of, connection) {
  connections.set(of, connection);
  tell(of, "open", { subprotocol: connection.protocol || null });
  connection.on("message", (data, isBinary) => {
    if (isBinary) {
      tell(of, "binary", { data: data.toString("base64") });
    } else {
      tell(of, "text", { data: data.toString() });
    }
  });
  connection.on("pong", (payload) => tell(of, "pong", { payload: payload.toString("base64") }));
  connection.on("close", (code, reason) => tell(of, "closed", { code, reason: reason.toString(), is_clean: null }));
  connection.on("error", (error) => console.error(`${error}`)); // `close` follows
}

function send(connection, pieces) {
  pieces.forEach((piece, i) => connection.send(piece, { fin: i === pieces.length - 1 }));
}

function compression({ deflate }) {
  if (!deflate) {
    return false;
  }
  return {
    ...COMPRESSES_ALL,
    serverNoContextTakeover: deflate.server_no_context_takeover,
    clientNoContextTakeover: deflate.client_no_context_takeover,
    serverMaxWindowBits: deflate.server_max_window_bits,
    clientMaxWindowBits: deflate.client_max_window_bits,
  };
}
