// A page that is a peer: it takes commands from the server that it is from, and tells it what happens, in order.

import { Conversations } from "./websocket_api.mjs";

let told = Promise.resolve();

function tell(event) {
  const body = JSON.stringify(event);
  told = told.then(() => fetch("/events", { method: "POST", body }));
}

function visit(url) {
  const frame = document.createElement("iframe");
  frame.src = url;
  document.body.append(frame);
}

const conversations = new Conversations(WebSocket, tell);
for (;;) {
  const commands = await (await fetch("/commands")).json();
  for (const command of commands) {
    if (command.do === "visit") {
      visit(command.url);
    } else {
      conversations.perform(command);
    }
  }
}
