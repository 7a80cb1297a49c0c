// A chat in a browser that is none: its clock, its network and its server are what the test says they are.

import { Chat } from "./module.mjs"

export const EPOCH = 77

/** The environment of one page: time passes by `pass`, and each connection is an entry of `sockets`. */
export class Page extends EventTarget {
  now_ms = 1_000_000
  timers = new Map()
  sockets = []
  document = new EventTarget()
  navigator = { onLine: true }
  Date = { now: () => this.now_ms }

  constructor() {
    super()
    const page = this
    this.document.visibilityState = "visible"
    this.WebSocket = class extends Socket {
      constructor(url, subprotocol) {
        super(url, subprotocol)
        page.sockets.push(this)
      }
    }
  }

  setTimeout(then, delay_ms) {
    const timer = {}
    this.timers.set(timer, { then, due: this.now_ms + delay_ms })
    return timer
  }

  clearTimeout(timer) {
    this.timers.delete(timer)
  }

  /** Let time pass, and what is due happen in its order. */
  async pass(ms) {
    const end = this.now_ms + ms
    for (;;) {
      await settled()
      const next = [...this.timers].sort(([, a], [, b]) => a.due - b.due)[0]
      if (!next || next[1].due > end) break
      this.now_ms = Math.max(this.now_ms, next[1].due)
      this.timers.delete(next[0])
      next[1].then()
    }
    this.now_ms = end
  }

  /** The machine sleeps: time passes, and nothing happens. */
  sleep(ms) {
    this.now_ms += ms
  }

  /** The next attempt, when its time has come. */
  async attempt() {
    const before = this.sockets.length
    while (this.sockets.length === before) await this.pass(50)
    return this.socket
  }

  get socket() {
    return this.sockets.at(-1)
  }

  /** A chat of this page, and all its events by their names. */
  chat(options = {}) {
    const chat = new Chat({ url: "ws://test/chat", nick: "ann", environment: this, ...options })
    const events = []
    for (const type of EVENTS) chat.addEventListener(type, ({ detail }) => events.push([type, detail]))
    chat.events = events
    chat.of = (type) => events.filter(([name]) => name === type).map(([, detail]) => detail)
    return chat
  }
}

const EVENTS = [
  ..."state welcome entered chat joined left renamed roster told notice lagged".split(" "),
  ..."said missing refused".split(" "),
]

/** One connection as its server sees it. */
class Socket {
  readyState = 0
  sent = []
  isClosed = false

  constructor(url, subprotocol) {
    this.url = url
    this.subprotocol = subprotocol
  }

  send(text) {
    this.sent.push(JSON.parse(text))
  }

  close(code) {
    this.isClosed = true
    this.code = code
    this.readyState = 3
  }

  // --- what the server does

  accept() {
    this.readyState = 1
    this.onopen({})
  }

  say(...messages) {
    for (const message of messages) this.onmessage({ data: JSON.stringify(message) })
  }

  break(reason = "") {
    this.readyState = 3
    this.onclose({ reason })
  }

  /** What came since this was last asked, but for pings; those are answered where `answers` is true. */
  take(answers = true) {
    const taken = this.sent.splice(0)
    this.lastToken = taken.findLast(({ type }) => type === "ping")?.token ?? this.lastToken
    for (const { type, token } of taken) if (answers && type === "ping") this.say({ type: "pong", token })
    return taken.filter(({ type }) => type !== "ping")
  }

  /** The same, but nothing that comes after what is asked for this room is answered. */
  takeFor(room) {
    const taken = this.sent.splice(0)
    const end = taken.findIndex((message, at) => at && taken[at - 1].room === room && message.type === "ping")
    for (const { type, token } of taken.slice(0, end + 1)) if (type === "ping") this.say({ type: "pong", token })
    this.lastToken = taken.findLast(({ type }) => type === "ping")?.token
    return taken.filter(({ type }) => type !== "ping")
  }

  /** Answer a `join`, with messages of the room, and all that one asks for with it. */
  async letIn(chats = [], { room = "lobby", epoch = EPOCH, status = 0, last, nicks = ["ann"], nick = "ann", isFirst = true } = {}) {
    await settled()
    if (isFirst) this.say({ type: "welcome", id: 1, nick, epoch, server: "test" })
    const seqs = chats.map(({ seq }) => seq)
    last ??= seqs.at(-1) ?? 0
    this.say(
      { type: "roster", room, last, total: nicks.length, nicks },
      ...chats,
      { type: "end", room, first: seqs[0] ?? 0, last: seqs.at(-1) ?? 0, status },
    )
    const taken = this.takeFor(room)
    await settled()
    return taken
  }
}

/** Messages of `bob` in a room, with these numbers. */
export function chats(first, last, { room = "lobby", nick = "bob" } = {}) {
  return Array.from({ length: last - first + 1 }, (_, i) => chat(first + i, `${nick} ${first + i}`, { room, nick }))
}

export function chat(seq, text, { room = "lobby", nick = "bob" } = {}) {
  return { type: "chat", room, seq, time: seq * 1_000, nick, text }
}

/** Storage in memory. */
export class Storage {
  kept = new Map()
  getItem = (name) => this.kept.get(name) ?? null
  setItem = (name, value) => void this.kept.set(name, String(value))
  removeItem = (name) => void this.kept.delete(name)
}

/** When everything has happened that follows from what happened. */
export async function settled() {
  for (let i = 0; i < 20; i++) await Promise.resolve()
}

/** A chat that is in the lobby, which has these messages. */
export async function inLobby(before = [], options = {}) {
  const page = new Page()
  const me = page.chat(options)
  const entered = me.join("lobby")
  page.socket.accept()
  await page.socket.letIn(before)
  await entered
  return { page, me, socket: page.socket }
}

/** Lose the connection, and have another one. */
export async function reconnect(page) {
  page.socket.break()
  const socket = await page.attempt()
  socket.accept()
  await settled()
  return socket
}
