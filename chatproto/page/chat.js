/**
 * The chat protocol, version 1, for a page of your own: one module, no dependencies, no build step.
 *
 *     import { Chat } from "./chat.js"
 *
 *     const chat = new Chat({ url: "wss://chat.example/chat", nick: "ann" })
 *     chat.addEventListener("chat", (event) => show(event.detail.nick, event.detail.text))
 *     await chat.join("lobby")
 *     await chat.say("lobby", "hello").receipt
 *
 * What a `Chat` promises:
 *
 * - It comes back by itself: after a lost connection, sleep, or the server's restart; with growing pauses that
 *   differ from client to client, not before a `goodbye` allows it, and at once when the network is there again.
 * - It resumes without a gap. Each message of a room comes once, in the room's order, as a `chat` event or in the
 *   `chats` of an `entered` event. What cannot be had any more is told by a `missing` event.
 * - What was said is said again, under the same id, until the server has acknowledged or refused it; with
 *   `storage`, after a reload of the page too. Nobody gets it twice.
 *
 * Text that comes from others is text: show it with `textContent`, never as HTML.
 *
 * Events, each with its `detail`:
 *
 * | event | detail |
 * | --- | --- |
 * | `state` | `{state, reason, delay_ms}`; the state is `stopped`, `connecting`, `open` or `waiting` (for the next attempt) |
 * | `welcome` | the message: a session is open, for the first time or again |
 * | `entered` | `{room, nicks, total, last, chats, older, resumed}`: one is in the room, for the first time or again (`resumed`); `chats` is what was replayed, `older` whether there is more before that |
 * | `chat`, `joined`, `left`, `renamed`, `roster`, `told`, `notice`, `lagged` | the message, as docs/protocol.md has it |
 * | `said` | a `Said`: something of one's own was acknowledged, refused, or is to be sent again |
 * | `missing` | `{room, first, last}`: these messages did not come; 0 and 0: the room began anew, and nobody knows what was missed |
 * | `refused` | `{code, label, text, room}`: the server does not let one back into `room` (who waits for a `join` is told there); without a room it does not take one at all, and the chat has stopped |
 */

// What stands between the markers is written by docs/tables.py, from chatproto/wire/messages.py and errors.py.
// <tables>
/** Each message by its type: its kind, and its fields in the order in which they travel. */
export const MESSAGES = {
  join: [0x01, { nick: "str", room: "str", epoch: "u64", after: "u64", limit: "u16" }],
  say: [0x02, { id: "u64", room: "str", text: "str" }],
  leave: [0x03, { room: "str" }],
  nick: [0x04, { nick: "str" }],
  who: [0x05, { room: "str" }],
  history: [0x06, { room: "str", before: "u64", limit: "u16" }],
  tell: [0x07, { id: "u64", nick: "str", text: "str" }],
  ping: [0x08, { token: "u64" }],
  login: [0x09, { user: "str", secret: "str" }],
  search: [0x0a, { room: "str", query: "str", limit: "u16" }],
  moderate: [0x0b, { action: "u8", room: "str", nick: "str", seconds: "u32", reason: "str" }],
  welcome: [0x81, { id: "u64", nick: "str", epoch: "u64", server: "str" }],
  joined: [0x82, { room: "str", nick: "str" }],
  left: [0x83, { room: "str", nick: "str", reason: "str" }],
  chat: [0x84, { room: "str", seq: "u64", time: "u64", nick: "str", text: "str" }],
  renamed: [0x85, { old: "str", new: "str" }],
  roster: [0x86, { room: "str", last: "u64", total: "u32", nicks: "strs" }],
  end: [0x87, { room: "str", first: "u64", last: "u64", status: "u8" }],
  told: [0x88, { time: "u64", nick: "str", text: "str" }],
  pong: [0x89, { token: "u64" }],
  ack: [0x8a, { id: "u64", seq: "u64", time: "u64" }],
  error: [0x8b, { code: "u16", id: "u64", text: "str" }],
  notice: [0x8c, { text: "str" }],
  lagged: [0x8d, { room: "str", first: "u64", last: "u64" }],
  goodbye: [0x8e, { retry_ms: "u32", text: "str" }],
}

/** Each error by its code: its name, and whether the connection ends with it. */
export const ERRORS = {
  1: ["malformed", true],
  2: ["too-big", true],
  3: ["join-first", true],
  4: ["nick-taken", false],
  5: ["bad-nick", false],
  6: ["bad-room", false],
  7: ["not-in-room", false],
  8: ["no-such-nick", false],
  9: ["bad-text", false],
  10: ["login-required", false],
  11: ["login-failed", false],
  12: ["not-allowed", false],
  13: ["not-stored", false],
  14: ["too-many-rooms", false],
  15: ["too-slow", true],
  16: ["timeout", true],
  17: ["rate-limited", false],
  18: ["not-supported", false],
}
// </tables>

const KINDS = new Map(Object.entries(MESSAGES).map(([type, [kind, fields]]) => [kind, { type, fields }]))
const MOST = { u8: 0xff, u16: 0xffff, u32: 0xffffffff, u64: Number.MAX_SAFE_INTEGER }
const SIZES = { u8: 1, u16: 2, u32: 4, u64: 8 }
const TWO_32 = 2 ** 32

const utf8 = new TextEncoder()
const fromUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

// --- messages to bytes or JSON, and back ------------------------------------------------------------------

/** A message as bytes: a frame of the protocol without its length. Absent fields count as 0 or empty. */
export function encode(message) {
  const [kind, fields] = rowOf(message)
  const parts = []
  let size = 1
  for (const [name, type] of Object.entries(fields)) {
    const value = checked(message[name], type, `${message.type}: ${name}`)
    if (type === "str") {
      parts.push(["u16", value.length], value)
      size += 2 + value.length
    } else if (type === "strs") {
      parts.push(["u16", value.length])
      size += 2
      for (const text of value) {
        parts.push(["u16", text.length], text)
        size += 2 + text.length
      }
    } else {
      parts.push([type, value])
      size += SIZES[type]
    }
  }
  const bytes = new Uint8Array(size)
  const view = new DataView(bytes.buffer)
  bytes[0] = kind
  let at = 1
  for (const part of parts) {
    if (part instanceof Uint8Array) {
      bytes.set(part, at)
      at += part.length
    } else {
      putNumber(view, at, ...part)
      at += SIZES[part[0]]
    }
  }
  return bytes
}

/**
 * The message in the bytes of a frame without its length; null for a kind that nobody knew when this was
 * written. Bytes after the fields are passed over. Throws a RangeError or TypeError for what is malformed.
 */
export function decode(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const row = KINDS.get(view.getUint8(0))
  if (row === undefined) return null
  let at = 1
  const number = (type) => {
    const value = type === "u64" ? view.getUint32(at) * TWO_32 + view.getUint32(at + 4) : numberAt(view, at, type)
    if (value > MOST[type]) throw new RangeError("a u64 of 2^53 or more")
    at += SIZES[type]
    return value
  }
  const text = () => {
    const length = number("u16")
    if (at + length > bytes.byteLength) throw new RangeError("a field overruns the frame")
    at += length
    return fromUtf8.decode(bytes.subarray(at - length, at))
  }
  const message = { type: row.type }
  for (const [name, type] of Object.entries(row.fields)) {
    if (type === "str") message[name] = text()
    else if (type === "strs") message[name] = Array.from({ length: number("u16") }, text)
    else message[name] = number(type)
  }
  return message
}

/** A message as JSON; as `encode`. */
export function toJson(message) {
  const [, fields] = rowOf(message)
  const shown = { type: message.type }
  for (const [name, type] of Object.entries(fields)) {
    checked(message[name], type, `${message.type}: ${name}`)
    shown[name] = message[name] ?? (type === "str" ? "" : type === "strs" ? [] : 0)
  }
  return JSON.stringify(shown)
}

/** The message in a JSON object; as `decode`. */
export function fromJson(text) {
  const shown = JSON.parse(text)
  if (typeof shown?.type !== "string") throw new TypeError("a message has a type")
  if (!Object.hasOwn(MESSAGES, shown.type)) return null
  const message = { type: shown.type }
  for (const [name, type] of Object.entries(MESSAGES[shown.type][1])) {
    checked(shown[name], type, `${shown.type}: ${name}`)
    message[name] = shown[name] ?? (type === "str" ? "" : type === "strs" ? [] : 0)
  }
  return message
}

function rowOf(message) {
  if (!Object.hasOwn(MESSAGES, message.type)) throw new TypeError(`there is no message ${message.type}`)
  return MESSAGES[message.type]
}

/** A field's value as it travels in a frame: a number, the bytes of a text, or an array of those. */
function checked(value, type, what) {
  if (type === "strs") {
    if (value !== undefined && !Array.isArray(value)) throw new TypeError(`${what} is not an array of strings`)
    if (value?.length > MOST.u16) throw new RangeError(`${what} has too many strings`)
    return (value ?? []).map((text) => checked(text, "str", what))
  }
  if (type === "str") {
    if (value !== undefined && typeof value !== "string") throw new TypeError(`${what} is not a string`)
    if (/\p{Surrogate}/u.test(value ?? "")) throw new RangeError(`${what} has half a surrogate pair`)
    const bytes = utf8.encode(value ?? "")
    if (bytes.length > MOST.u16) throw new RangeError(`${what} has more than ${MOST.u16} bytes`)
    return bytes
  }
  if (value !== undefined && !(Number.isInteger(value) && value >= 0 && value <= MOST[type])) {
    throw new RangeError(`${what} is not a whole number from 0 to ${MOST[type]}`)
  }
  return value ?? 0
}

function numberAt(view, at, type) {
  return type === "u8" ? view.getUint8(at) : type === "u16" ? view.getUint16(at) : view.getUint32(at)
}

function putNumber(view, at, type, value) {
  if (type === "u8") view.setUint8(at, value)
  else if (type === "u16") view.setUint16(at, value)
  else if (type === "u32") view.setUint32(at, value)
  else {
    view.setUint32(at, Math.floor(value / TWO_32))
    view.setUint32(at + 4, value % TWO_32)
  }
}

const FORMS = {
  "chat.v1.json": { encode: toJson, decode: fromJson },
  "chat.v1.bin": { encode, decode: (data) => decode(new Uint8Array(data)) },
}

// --- what one gets back -----------------------------------------------------------------------------------

/** Why something did not happen. `code` is that of the protocol's table, 0 where the server did not say it. */
export class ChatError extends Error {
  constructor(text, code = 0) {
    super(text)
    this.name = "ChatError"
    this.code = code
    this.label = ERRORS[code]?.[0] ?? (code ? `error ${code}` : "not-done")
  }
}

/** An event of a `Chat`. */
export class ChatEvent extends Event {
  constructor(type, detail) {
    super(type)
    this.detail = detail
  }
}

/**
 * Something that one said in a room or told a person. `state` is `waiting`, `acknowledged` (then `seq` and
 * `time` are there) or `refused` (then `error` is). `receipt` is a promise of the same.
 */
export class Said {
  constructor(id, order, message, nick) {
    this.id = id
    this.order = order
    this.message = message
    this.nick = nick
    this.room = message.type === "say" ? message.room : null
    this.to = message.type === "tell" ? message.nick : null
    this.text = message.text
    this.state = "waiting"
    this.seq = 0
    this.time = 0
    this.error = null
    /** Whether it was sent at all, and the connection on which it was sent last. */
    this.wasSent = false
    this.sentOn = null
    /** What came in a replay and is taken for this very message until the `ack` says so. */
    this.shown = null
    this.receipt = new Promise((resolve, reject) => {
      this.settle = (error) => (error ? reject(error) : resolve(this))
    })
    this.receipt.catch(() => {}) // who does not ask is told by the `said` event
  }
}

// --- which messages of a room have come -------------------------------------------------------------------

const MOST_AHEAD = 4096

/**
 * The sequence numbers of one room as one client sees them. A number that is skipped need not be lost: it may be
 * that of something one said oneself, which comes back only as `ack`. So a hole stays open while anything is
 * unacknowledged that was said before the hole showed.
 */
class Sequence {
  /** All up to here has come or is known to be lost; null before the first. */
  last = null
  #seen = new Set()
  #reached = 0
  #doubt = 0

  begin(last) {
    this.last = last
    this.#seen.clear()
    this.#reached = this.#doubt = 0
  }

  /** Take note of a message; false if it has come before. */
  see(seq) {
    if (this.last === null) this.last = seq - 1
    if (seq <= this.last || this.#seen.has(seq)) return false
    this.#seen.add(seq)
    this.#closeUp()
    return true
  }

  has(seq) {
    return this.last !== null && (seq <= this.last || this.#seen.has(seq))
  }

  /** All up to `seq` should have come, but for what one said oneself up to the order `doubt`. */
  reach(seq, doubt) {
    if (this.last !== null && seq > Math.max(this.last, this.#reached)) {
      this.#reached = seq
      this.#doubt = doubt
    }
  }

  /** The holes that nothing can fill any more, as pairs; they count as closed then. */
  lost(oldestUnacknowledged) {
    if (this.last === null || this.#reached <= this.last) return []
    if (oldestUnacknowledged <= this.#doubt && this.#seen.size < MOST_AHEAD) return []
    const holes = []
    const seen = [...this.#seen].filter((seq) => seq <= this.#reached).sort((a, b) => a - b)
    for (const seq of [...seen, this.#reached + 1]) {
      if (seq > this.last + 1) holes.push([this.last + 1, seq - 1])
      this.last = seq
    }
    this.last = this.#reached
    for (const seq of seen) this.#seen.delete(seq)
    this.#closeUp()
    return holes
  }

  #closeUp() {
    while (this.#seen.delete(this.last + 1)) this.last += 1
  }
}

/** A room that one is in, or wants to be in, over all connections. */
class Room {
  constructor(name, limit) {
    this.name = name
    this.limit = limit
    this.sequence = new Sequence()
    this.epoch = 0
    this.asked = false // on this connection
    this.inside = false // the same, and answered
    this.waiting = [] // who waits for the first answer
  }
}

// --- the client -------------------------------------------------------------------------------------------

const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 30_000
const LONGEST_PAUSE_IF_HELD_MS = 3_000
const OPENING_MS = 15_000
const HEARTBEAT_MS = 25_000
const ANSWER_MS = 10_000
const ANSWER_IF_IN_DOUBT_MS = 3_000
const HELD_MS = 60_000
const MOST_WAITING = 200
const MOST_TEXT_BYTES = 60_000
const ROOM_AGAIN_MS = 5_000
const NICK_TAKEN = 4
const LOGIN_REQUIRED = 10
const RATE_LIMITED = 17
const GONE = new Set(["left", "kicked"])

/** One person's part in a chat, over as many connections as it takes. */
export class Chat extends EventTarget {
  /**
   * - `url`: where the chat is, `ws://HOST/chat` or `wss://HOST/chat`
   * - `nick`: the nickname to have
   * - `held`: whether it may still be held by an earlier connection of one's own, e.g. from before a reload; then
   *   a nickname that is taken is asked for again for a minute
   * - `storage`: where to keep what is not acknowledged, e.g. `sessionStorage`
   * - `resumeLimit`: how many missed messages are replayed at most; of the others `missing` tells
   * - `subprotocol`: `chat.v1.json` or `chat.v1.bin`
   * - `environment`: what to use instead of the browser's `WebSocket`, timers and events; for tests
   */
  constructor({
    url,
    nick,
    held = false,
    storage = null,
    resumeLimit = 500,
    subprotocol = "chat.v1.json",
    environment = globalThis,
  }) {
    super()
    if (!Object.hasOwn(FORMS, subprotocol)) throw new TypeError(`there is no subprotocol ${subprotocol}`)
    this.url = String(url)
    this.nick = nick
    this.state = "stopped"
    this.session = null // the `welcome` of the session that is open
    this.epoch = 0
    this.#held = held
    this.#storage = storage
    this.#resumeLimit = resumeLimit
    this.#subprotocol = subprotocol
    this.#form = FORMS[subprotocol]
    this.#environment = environment
    this.#restore()
  }

  #held
  #heldSince = 0
  #storage
  #resumeLimit
  #subprotocol
  #form
  #environment
  #socket = null
  #rooms = new Map()
  #outbox = new Map()
  #requests = [] // unanswered on this connection, in the order in which the server takes them up
  #credentials = null
  #loginError = null
  #nextId = firstId()
  #nextOrder = 1
  #nextToken = 1
  #attempts = 0
  #notBefore = 0
  #timers = new Map()
  #heard = 0
  #reason = ""

  /** The rooms that one is in, or goes back to. */
  get rooms() {
    return [...this.#rooms.keys()].filter(Boolean)
  }

  /** What is not acknowledged, in the order in which it was said. */
  get waiting() {
    return [...this.#outbox.values()]
  }

  /** The newest message of a room of which one knows that it and all before it have come; 0 if there is none. */
  lastOf(room) {
    return this.#rooms.get(room)?.sequence.last ?? 0
  }

  // --- what people ask for

  /** Connect, unless that is so, and stay connected. `join` does this by itself. */
  start() {
    if (this.state !== "stopped") return
    for (const [target, type] of this.#watched()) target?.addEventListener?.(type, this.#nudge)
    this.#heldSince = this.#now()
    this.#attempts = 0
    this.#connect()
  }

  /** Leave and do not come back. What is not acknowledged stays in `storage`. */
  stop() {
    if (this.state === "stopped") return
    if (this.session) this.#send({ type: "leave", room: "" })
    this.#stop("one has left")
  }

  /** Lose the connection without a word, as a page does that is left; `start` goes on where it was. */
  suspend() {
    if (this.state !== "stopped") this.#stop("the page was left")
  }

  /** Enter a room, the default one if it has no name, with the newest `limit` messages: its `entered` detail. */
  join(room = "", limit = 100) {
    let known = this.#rooms.get(room)
    if (known?.inside && !known.waiting.length) return this.who(room)
    if (!known) this.#rooms.set(room, (known = new Room(room, limit)))
    const entered = new Promise((resolve, reject) => known.waiting.push({ resolve, reject }))
    entered.catch(() => {})
    this.start()
    this.#enterRooms()
    return entered
  }

  /** Leave a room. */
  async leave(room) {
    const known = this.#rooms.get(room)
    if (!known) throw new ChatError("one is not in that room", 7)
    this.#drop(known, new ChatError("one has left that room", 7))
    if (known.asked) await this.#ask({ type: "leave", room })
  }

  /** Say something in a room: a `Said` at once, to be sent when that is possible. Throws a ChatError if never. */
  say(room, text) {
    return this.#put({ type: "say", room, text: this.#sayable(text) })
  }

  /** The same, to one person. */
  tell(nick, text) {
    return this.#put({ type: "tell", nick, text: this.#sayable(text) })
  }

  /** Forget something that was refused, or that one does not want to say any more; it may have been heard. */
  forget(said) {
    this.#outbox.delete(said.id)
    this.#save()
  }

  /** Who is in a room: the `roster`. */
  async who(room) {
    return (await this.#ask({ type: "who", room })).roster
  }

  /** The newest `limit` messages before the number `before` (0: the newest of all): `{chats, older}`. */
  async history(room, before = 0, limit = 50) {
    const last = this.#rooms.get(room)?.sequence.last ?? null
    // Only what has come already, so that nothing live can be taken for a part of the answer.
    if (last !== null) before = Math.min(before || Infinity, last + 1)
    const { chats, end } = await this.#ask({ type: "history", room, before, limit })
    return { chats, older: end?.status === 1 }
  }

  /** The newest `limit` messages of a room that match: `{chats, older}`. */
  async search(room, query, limit = 50) {
    const { chats, end } = await this.#ask({ type: "search", room, query: wellFormed(query), limit })
    return { chats, older: end?.status === 1 }
  }

  /** Take another nickname: the one that one has then. */
  async rename(nick) {
    if (this.state === "stopped") {
      this.nick = nick
    } else {
      try {
        await this.#ask({ type: "nick", nick: wellFormed(nick) })
      } finally {
        this.#enterRooms()
      }
    }
    return this.nick
  }

  /** For operators: 1 kick, 2 ban, 3 unban, 4 mute, 5 unmute. */
  async moderate(action, room, nick, seconds = 0, reason = "") {
    await this.#ask({ type: "moderate", action, room, nick, seconds, reason })
  }

  /** Authenticate with this, before joining, on every connection. */
  login(user, secret) {
    this.#credentials = { type: "login", user: wellFormed(user), secret: wellFormed(secret) }
  }

  /** Find out now whether the connection is alive, or try at once to have one again. */
  wake() {
    if (this.state === "waiting") {
      this.#again(Math.max(0, this.#notBefore - this.#now()))
    } else if (this.state === "open") {
      this.#probe(ANSWER_IF_IN_DOUBT_MS)
    }
  }

  // --- connections

  #connect() {
    this.#reason = ""
    this.#set("connecting")
    let socket
    try {
      socket = new this.#environment.WebSocket(this.url, this.#subprotocol)
    } catch (error) {
      this.#lost(String(error.message))
      return
    }
    this.#socket = socket
    socket.binaryType = "arraybuffer"
    // A socket that was given up may still tell of its end, much later.
    const mine = (then) => (event) => socket === this.#socket && then(event)
    socket.onopen = mine(() => this.#opened())
    socket.onmessage = mine((event) => this.#received(event.data))
    socket.onclose = mine((event) => this.#lost(event.reason || "the connection was lost"))
    this.#after("opening", OPENING_MS, () => this.#abandon("the server did not answer"))
  }

  #opened() {
    this.#heard = this.#now()
    this.#requests = []
    this.#loginError = null
    if (this.#credentials) this.#ask(this.#credentials).catch((error) => (this.#loginError = error))
    this.#enterRooms()
  }

  /** Give the connection up without waiting for the other side, which may be gone. */
  #abandon(reason, longest_ms = LONGEST_PAUSE_MS) {
    const socket = this.#socket
    this.#socket = null
    socket?.close(4000, "given up")
    this.#lost(reason, longest_ms)
  }

  #lost(reason, longest_ms = LONGEST_PAUSE_MS) {
    this.#end(this.#reason || reason)
    this.#attempts += 1
    const pause = Math.min(longest_ms, FIRST_PAUSE_MS * 2 ** Math.min(this.#attempts - 1, 10))
    const delay = Math.max(pause * (0.5 + Math.random()), this.#notBefore - this.#now())
    this.#set("waiting", this.#reason || reason, delay)
    this.#again(delay)
  }

  /** What belonged to the connection is over. */
  #end(reason) {
    if (this.session) {
      this.#held = true
      this.#heldSince = this.#now()
    }
    this.#socket = null
    this.session = null
    for (const name of [...this.#timers.keys()]) this.#cancel(name)
    for (const room of this.#rooms.values()) room.asked = room.inside = false
    const unanswered = this.#requests
    this.#requests = []
    for (const request of unanswered) request.reject(new ChatError(reason))
  }

  #stop(reason) {
    const socket = this.#socket
    this.#socket = null
    socket?.close(1000)
    for (const [target, type] of this.#watched()) target?.removeEventListener?.(type, this.#nudge)
    this.#end(reason)
    this.#set("stopped", reason)
  }

  #again(delay) {
    this.#after("again", delay, () => this.#connect())
  }

  #set(state, reason = "", delay_ms = 0) {
    this.state = state
    this.#emit("state", { state, reason, delay_ms })
  }

  // --- is anybody there?

  #watched() {
    const { document } = this.#environment
    return [
      [this.#environment, "online"],
      [this.#environment, "offline"],
      [this.#environment, "pageshow"],
      [document, "visibilitychange"],
    ]
  }

  #nudge = (event) => {
    const { document, navigator } = this.#environment
    if (event.type === "visibilitychange" && document.visibilityState !== "visible") return
    if (this.state === "waiting" && navigator?.onLine === false) return
    this.wake()
  }

  /** Ask for a sign of life, and take it for death if there is none in time. */
  #probe(patience_ms) {
    const sent = this.#now()
    this.#ask({ type: "ping" }).catch(() => {})
    this.#after("probe", patience_ms, () => {
      if (this.#heard >= sent) return this.#beat()
      // This machine was asleep, and what came meanwhile may not be read yet.
      if (this.#now() - sent > 2 * patience_ms) return this.#probe(patience_ms)
      return this.#abandon("the connection is dead")
    })
  }

  #beat() {
    this.#after("probe", HEARTBEAT_MS, () => {
      if (this.#now() - this.#heard < HEARTBEAT_MS / 2) this.#beat()
      else this.#probe(ANSWER_MS)
    })
  }

  // --- requests: each is followed by a ping, whose pong says that the answer is complete

  #ask(message) {
    if (!this.#socket || this.#socket.readyState !== 1) {
      return Promise.reject(new ChatError("there is no connection"))
    }
    const token = this.#nextToken++
    const asked = new Promise((resolve, reject) => {
      this.#requests.push({ message, token, resolve, reject, chats: [], roster: null, end: null, error: null })
    })
    if (message.type !== "ping") this.#send(message)
    this.#send({ type: "ping", token })
    return asked
  }

  #send(message) {
    if (this.#socket?.readyState === 1) this.#socket.send(this.#form.encode(message))
  }

  #answered(token) {
    while (this.#requests.length && this.#requests[0].token <= token) {
      const request = this.#requests.shift()
      if (request.error) request.reject(request.error)
      else request.resolve(request)
    }
  }

  /** Join the rooms that are not joined on this connection; the first one alone, since it opens the session. */
  #enterRooms() {
    if (this.#socket?.readyState !== 1) return
    const rooms = [...this.#rooms.values()]
    const missing = rooms.filter((room) => !room.asked)
    if (!this.session) {
      if (missing.length === rooms.length && rooms.length) this.#enter(missing[0])
      return
    }
    // A join must have the nickname that the session has when it arrives.
    if (this.#requests.some((request) => request.message.type === "nick")) return
    // The default room must not be joined twice, once by its name: the second would not be answered.
    if (rooms.some((room) => room.name === "" && room.asked)) return
    for (const room of missing) this.#enter(room)
    for (const said of this.#outbox.values()) this.#sendSaid(said)
  }

  async #enter(room) {
    room.asked = true
    const { last } = room.sequence
    const resumed = last !== null
    const place = resumed
      ? { epoch: room.epoch, after: last, limit: this.#resumeLimit }
      : { epoch: 0, after: 0, limit: room.limit }
    try {
      const request = await this.#ask({ type: "join", nick: this.nick, room: room.name, ...place })
      if (!request.roster && room.name === "") await this.#learnDefault(room)
    } catch (error) {
      if (error.code) this.#notEntered(room, error)
    }
  }

  /** One is in the default room by its name, so the join without a name was not answered. */
  async #learnDefault(room) {
    this.#rooms.delete("")
    const roster = await this.who("")
    for (const { resolve } of room.waiting.splice(0)) resolve({ ...roster, room: roster.room, chats: [] })
    this.#enterRooms()
  }

  #notEntered(room, error) {
    room.asked = false
    if (error.code === RATE_LIMITED && room.epoch) {
      // One was in there, and comes back with everybody else after a restart; there will be a place again.
      if (this.session) this.#after(`room ${room.name}`, ROOM_AGAIN_MS, () => this.#enterRooms())
      else this.#abandon(error.message)
      return
    }
    if (this.session) return this.#shutOut(room, error)
    if (error.code === NICK_TAKEN && this.#held && this.#now() - this.#heldSince < HELD_MS) {
      // By the server's lights the connection that was lost is still alive; it will find out.
      this.#abandon("the nickname is still held by the connection that was lost", LONGEST_PAUSE_IF_HELD_MS)
      return
    }
    if ([6, 12, 14].includes(error.code) && this.#rooms.size > 1) return this.#shutOut(room, error)
    // That one is to log in first says less than why one could not.
    const why = error.code === LOGIN_REQUIRED && this.#loginError?.code ? this.#loginError : error
    this.#stop(why.message)
    for (const { reject } of room.waiting.splice(0)) reject(why)
    this.#refuse(why, "")
  }

  /** One room less, and on with the others. */
  #shutOut(room, error) {
    const isAwaited = room.waiting.length > 0
    if (this.#drop(room, error) && !isAwaited) this.#refuse(error, room.name)
    this.#enterRooms()
  }

  #refuse(error, room) {
    this.#emit("refused", { code: error.code, label: error.label, text: error.message, room })
  }

  #drop(room, error) {
    for (const { reject } of room.waiting.splice(0)) reject(error)
    if (this.#rooms.get(room.name) !== room) return false
    this.#rooms.delete(room.name)
    for (const said of this.#outbox.values()) {
      if (said.room === room.name && said.sentOn !== this.#socket) this.#finish(said, error)
    }
    return true
  }

  // --- what one says

  #sayable(text) {
    const said = wellFormed(text)
    if (!said) throw new ChatError("The message is empty; write something.", 9)
    if (utf8.encode(said).length > MOST_TEXT_BYTES) {
      throw new ChatError("The message is too long; send it in parts.", 9)
    }
    return said
  }

  #put(message) {
    if (this.#outbox.size >= MOST_WAITING) {
      throw new ChatError(`${MOST_WAITING} messages are not acknowledged; this one was not said`)
    }
    const id = this.#nextId
    this.#nextId = (this.#nextId % Number.MAX_SAFE_INTEGER) + 1
    const said = new Said(id, this.#nextOrder++, { ...message, id }, this.nick)
    this.#outbox.set(id, said)
    if (!this.#sendSaid(said)) this.#save()
    return said
  }

  /** Send it, if it is its time; whether it was. */
  #sendSaid(said) {
    const room = said.room === null ? null : this.#rooms.get(said.room)
    if (!this.session || said.sentOn === this.#socket || (said.room !== null && !room?.asked)) return false
    if (said.wasSent && said.nick !== this.nick) {
      // Under another nickname the server would not know it again, and people might get it twice.
      this.#finish(said, new ChatError("nobody knows whether this arrived before you changed your name"))
      return false
    }
    said.sentOn = this.#socket
    said.wasSent = true
    said.nick = this.nick
    this.#save()
    this.#send(said.message)
    this.#emit("said", said)
    return true
  }

  #finish(said, error, ack = null) {
    if (!this.#outbox.delete(said.id)) return
    this.#save()
    said.state = error ? "refused" : "acknowledged"
    said.error = error
    if (ack) [said.seq, said.time] = [ack.seq, ack.time]
    if (said.shown && said.shown.seq !== said.seq) this.#emit("chat", said.shown) // another one with the same text
    this.#emit("said", said)
    said.settle(error)
    const room = said.room === null ? null : this.#rooms.get(said.room)
    if (room) {
      if (ack && room.sequence.last !== null) room.sequence.see(ack.seq)
      this.#tellMissing(room)
    }
  }

  #save() {
    if (!this.#storage) return
    const kept = [...this.#outbox.values()].map(({ message, nick, wasSent }) => ({ message, nick, wasSent }))
    try {
      if (kept.length) this.#storage.setItem(`chat.js ${this.url}`, JSON.stringify(kept))
      else this.#storage.removeItem(`chat.js ${this.url}`)
    } catch {
      // It is full or not allowed: then what is unacknowledged does not outlive the page.
    }
  }

  #restore() {
    try {
      for (const { message, nick, wasSent } of JSON.parse(this.#storage?.getItem(`chat.js ${this.url}`) ?? "[]")) {
        encode(message)
        const said = new Said(message.id, this.#nextOrder++, message, nick)
        said.wasSent = wasSent
        this.#outbox.set(said.id, said)
      }
    } catch {
      // Somebody else wrote there, or nobody may read it.
    }
  }

  // --- what the server says

  #received(data) {
    this.#heard = this.#now()
    let message
    try {
      message = this.#form.decode(data)
    } catch (error) {
      this.#abandon(`the server does not speak the protocol: ${error.message}`)
      return
    }
    if (message) this.#take[message.type]?.(message)
  }

  /** The request that waits for its answer, if it is one of these, and about this room where it has one. */
  #head(room, ...types) {
    const request = this.#requests[0]
    if (!request || !types.includes(request.message.type)) return null
    return ["", room].includes(request.message.room) ? request : null
  }

  #take = {
    welcome: (message) => {
      this.#cancel("opening")
      this.session = message
      this.nick = message.nick
      this.epoch = message.epoch
      this.#held = false
      this.#attempts = 0
      this.#notBefore = 0
      this.#set("open")
      this.#beat()
      this.#emit("welcome", message)
      this.#enterRooms()
    },

    roster: (message) => {
      const request = this.#head(message.room, "join", "who")
      if (!request || request.roster) return this.#emit("roster", message)
      request.roster = message
      if (request.message.type === "who") return
      const room = this.#rooms.get(request.message.room)
      if (!room) return
      this.#rename(room, message.room)
      room.inside = true
      const { last } = room.sequence
      if (last !== null && (room.epoch !== this.epoch || message.last < last)) {
        // `end` is going to say so too, but until then the new numbers would pass for old ones.
        room.sequence.begin(null)
        request.anew = true
        this.#emit("missing", { room: room.name, first: 0, last: 0 })
      }
      room.epoch = this.epoch
      this.#enterRooms()
    },

    chat: (message) => {
      const room = this.#rooms.get(message.room)
      const request = this.#head(message.room, "history", "search", "join")
      const asked = request?.message
      if (asked?.type === "history" && (!asked.before || message.seq < asked.before)) {
        request.chats.push(message)
      } else if (asked?.type === "search" && (!room?.inside || room.sequence.has(message.seq))) {
        request.chats.push(message)
      } else if (room?.inside && room.sequence.see(message.seq)) {
        const isReplay = asked?.type === "join" && !request.end
        if (message.seq !== room.sequence.last) this.#expect(room, message.seq, isReplay)
        if (message.nick === this.nick && this.#claim(message)) return
        if (isReplay) request.chats.push(message)
        else this.#emit("chat", message)
      }
    },

    end: (message) => {
      const request = this.#head(message.room, "history", "search", "join")
      if (!request) return
      request.end = message
      const room = request.message.type === "join" && this.#rooms.get(message.room)
      if (!room || !request.roster) return
      const { sequence } = room
      const resumed = request.message.epoch !== 0
      if (sequence.last === null) sequence.begin(request.roster.last)
      else this.#expect(room, message.last ? message.first - 1 : request.roster.last, true)
      const detail = {
        ...request.roster,
        chats: request.chats,
        older: message.status === 1 || (message.status === 2 && message.first > 1),
        resumed: resumed && !request.anew,
      }
      this.#emit("entered", detail)
      for (const { resolve } of room.waiting.splice(0)) resolve(detail)
    },

    ack: (message) => {
      const said = this.#outbox.get(message.id)
      if (said) this.#finish(said, null, message)
    },

    error: (message) => {
      const error = new ChatError(message.text, message.code)
      const said = this.#outbox.get(message.id)
      if (ERRORS[message.code]?.[1]) this.#reason = message.text
      else if (message.id) said && this.#finish(said, error)
      else if (this.#requests.length && this.#requests[0].message.type !== "ping") this.#requests[0].error ??= error
      else this.#emit("notice", { type: "notice", text: message.text })
    },

    left: (message) => {
      const room = this.#rooms.get(message.room)
      if (room?.inside && message.nick === this.nick && GONE.has(message.reason)) {
        this.#drop(room, new ChatError("one was put out of that room", 12))
      }
      this.#emit("left", message)
    },

    renamed: (message) => {
      if (message.old === this.nick) this.nick = message.new
      this.#emit("renamed", message)
    },

    lagged: (message) => {
      this.#emit("lagged", message)
      const room = this.#rooms.get(message.room)
      if (room?.inside) this.#expect(room, message.first - 1)
    },

    goodbye: (message) => {
      this.#reason = message.text
      this.#notBefore = this.#now() + message.retry_ms
    },

    pong: (message) => this.#answered(message.token),
    joined: (message) => this.#emit("joined", message),
    told: (message) => this.#emit("told", message),
    notice: (message) => this.#emit("notice", message),
  }

  /** The server has said what the default room is called. */
  #rename(room, name) {
    if (room.name === name) return
    const twin = this.#rooms.get(name)
    if (twin) room.waiting.push(...twin.waiting.splice(0))
    this.#rooms.delete(room.name)
    room.name = name
    this.#rooms.set(name, room)
  }

  /** Whether something with one's own name is, by all appearance, what has no `ack` yet. */
  #claim(message) {
    for (const said of this.#outbox.values()) {
      if (said.wasSent && !said.shown && said.room === message.room && said.text === message.text) {
        said.shown = message
        return true
      }
    }
    return false
  }

  /** All up to `seq` should have come; but for what one said and has no `ack` for, unless that is `certain`. */
  #expect(room, seq, certain = false) {
    const own = this.waiting.filter((said) => said.room === room.name).map((said) => said.order)
    room.sequence.reach(seq, certain ? 0 : Math.max(0, ...own))
    this.#tellMissing(room)
  }

  #tellMissing(room) {
    const own = this.waiting.filter((said) => said.room === room.name).map((said) => said.order)
    for (const [first, last] of room.sequence.lost(Math.min(Infinity, ...own))) {
      this.#emit("missing", { room: room.name, first, last })
    }
  }

  // --- the environment

  #emit(type, detail) {
    this.dispatchEvent(new ChatEvent(type, detail))
  }

  #now() {
    return this.#environment.Date.now()
  }

  #after(name, delay_ms, then) {
    this.#cancel(name)
    const timer = this.#environment.setTimeout(() => {
      this.#timers.delete(name)
      then()
    }, delay_ms)
    this.#timers.set(name, timer)
  }

  #cancel(name) {
    this.#environment.clearTimeout(this.#timers.get(name))
    this.#timers.delete(name)
  }
}

/** Half a surrogate pair cannot travel: it becomes U+FFFD. */
function wellFormed(text) {
  return String(text).replace(/\p{Surrogate}/gu, "\ufffd")
}

/** An id that no other page has, with room above it: 52 bits of chance. */
function firstId() {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2))
  return (high >>> 12) * TWO_32 + low + 1
}
