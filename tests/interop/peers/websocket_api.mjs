// The browsers' WebSocket as a peer that connects: see commands.py. For a page, and for Node without packages.

export class Conversations {
  #WebSocket;
  #tell;
  #sockets = new Map();

  constructor(WebSocket, tell) {
    this.#WebSocket = WebSocket;
    this.#tell = tell;
  }

  perform(command) {
    const { do: what, of } = command;
    if (what === "connect") {
      this.#sockets.set(of, this.#connect(command));
      return;
    }
    const socket = this.#sockets.get(of);
    if (what === "send" && command.text) {
      socket.send(command.text[0]); // the API has no fragments
    } else if (what === "send") {
      socket.send(fromBase64(command.binary[0]));
    } else if (what === "close") {
      socket.close(...(command.code === null ? [] : [command.code, command.reason]));
    } else if (what === "forget") {
      this.#sockets.delete(of);
    } else {
      throw new Error(`the API has no ${what}`);
    }
  }

  #connect({ of, url, terms }) {
    const tell = (event, about) => this.#tell({ of, event, ...about });
    const socket = new this.#WebSocket(url, terms.subprotocols ?? []);
    let wasOpen = false;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      wasOpen = true;
      tell("open", { subprotocol: socket.protocol || null, extensions: socket.extensions });
    };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") {
        tell("text", { data });
      } else {
        tell("binary", { data: toBase64(new Uint8Array(data)) });
      }
    };
    socket.onerror = () => {
      if (!wasOpen) {
        tell("refused", { status: null, body: null }); // a page is not told more
      }
    };
    socket.onclose = ({ code, reason, wasClean }) => {
      if (wasOpen) {
        tell("closed", { code, reason, is_clean: wasClean });
      }
    };
    return socket;
  }
}

function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function toBase64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x4000) {
    text += String.fromCharCode(...bytes.subarray(at, at + 0x4000));
  }
  return btoa(text);
}
