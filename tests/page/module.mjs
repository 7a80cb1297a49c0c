// The page's chat.js. It lies in no package that tells Node it is a module, so Node is told so here.

import { readFileSync } from "node:fs"
import { webcrypto } from "node:crypto"

globalThis.crypto ??= webcrypto // older Nodes keep it to themselves

const source = readFileSync(new URL("../../chatproto/page/chat.js", import.meta.url), "utf-8")

export const { Chat, ChatError, decode, encode, ERRORS, fromJson, MESSAGES, toJson } = await import(
  `data:text/javascript,${encodeURIComponent(source)}`
)
