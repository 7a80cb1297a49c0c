/** What outlives a reload: who one is, in which rooms, how far one has read, and what was being written. */

const PREFIX = `chat ${new URL(".", location.href).pathname} `
const MOST_PRIVATE = 200

function read(storage, name, otherwise) {
  try {
    return JSON.parse(storage.getItem(PREFIX + name)) ?? otherwise
  } catch {
    return otherwise // nothing may be stored, or somebody else wrote there
  }
}

function write(storage, name, value) {
  try {
    if (value === null) storage.removeItem(PREFIX + name)
    else storage.setItem(PREFIX + name, JSON.stringify(value))
  } catch {
    // It is full or not allowed: the page works without.
  }
}

function storageOf(name) {
  try {
    return globalThis[name]
  } catch {
    return null // reading it is an error where cookies are blocked
  }
}

const tab = storageOf("sessionStorage")
const all = storageOf("localStorage")

/** For the chat's unacknowledged messages. */
export const tabStorage = tab

/** What this tab had when it was reloaded, or else what the last tab had. */
export function loadPlace() {
  const mine = read(tab, "place", null)
  const last = read(all, "place", null)
  const { nick = "", rooms = [], current = "", epoch = 0, entered = false } = { ...last, entered: false, ...mine }
  return { nick: String(nick), rooms: rooms.map(String), current: String(current), epoch, entered: entered === true }
}

/** Remember it; `entered` is whether to go on without asking, in this tab. */
export function savePlace(place) {
  write(tab, "place", place)
  write(all, "place", { ...place, entered: false })
}

/** How far a room was read, in the sequence of an epoch; 0 if it was not. */
export function loadRead(room, epoch) {
  const mark = read(all, `read ${room}`, null)
  return mark?.epoch === epoch && Number.isInteger(mark.seq) ? mark.seq : 0
}

/** Note that a room was read so far. */
export function saveRead(room, epoch, seq) {
  if (seq > loadRead(room, epoch)) write(all, `read ${room}`, { epoch, seq })
}

/** What was being written in a conversation. */
export function loadDraft(key) {
  return String(read(tab, `draft ${key}`, ""))
}

/** Keep what is being written. */
export function saveDraft(key, text) {
  write(tab, `draft ${key}`, text || null)
}

/** Private messages are in no history: what this tab had of them. */
export function loadPrivate() {
  const kept = read(tab, "private", [])
  return Array.isArray(kept) ? kept : []
}

/** Keep one more private message. */
export function savePrivate(message) {
  write(tab, "private", [...loadPrivate(), message].slice(-MOST_PRIVATE))
}

/** Forget them, when one leaves. */
export function forgetPrivate() {
  write(tab, "private", null)
  write(tab, "private read", null)
}

/** Up to when the private messages of a person were read, in ms. */
export function loadPrivateRead(key) {
  return Number(read(tab, "private read", {})[key] ?? 0)
}

/** Note that they were read up to then. */
export function savePrivateRead(key, time_ms) {
  write(tab, "private read", { ...read(tab, "private read", {}), [key]: time_ms })
}

const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel(PREFIX) : null
const ANSWER_MS = 150

/** Let other tabs know, when they ask, that this one has a nickname; `own` says which, or nothing. */
export function answerForNick(own) {
  channel?.addEventListener("message", ({ data }) => {
    if (data.asks && data.asks === own()) channel.postMessage({ has: data.asks })
  })
}

/** Whether another tab has this nickname. */
export function isHeldElsewhere(nick) {
  if (!channel) return Promise.resolve(false)
  return new Promise((resolve) => {
    const heard = ({ data }) => data.has === nick && done(true)
    const done = (held) => {
      channel.removeEventListener("message", heard)
      resolve(held)
    }
    channel.addEventListener("message", heard)
    channel.postMessage({ asks: nick })
    setTimeout(done, ANSWER_MS, false)
  })
}
