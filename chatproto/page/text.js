/** How text from others is shown: as text, with links that are safe to follow, and times of the reader's zone. */

const URL_LIKE = /\bhttps?:\/\/[^\s<>"`\p{Bidi_Control}]+/giu
const CLOSING = { ")": "(", "]": "[", "}": "{" }
const HUES = 12

/** How a text begins that says what one does. */
export const ACTION = "/me "

/** An element with classes and text; never with HTML. */
export function element(name, className = "", text = null) {
  const made = document.createElement(name)
  if (className) made.className = className
  if (text !== null) made.textContent = text
  return made
}

/** `text` as nodes: links where it has addresses of the web, and where it names `nick` a mark. */
export function nodesOf(text, nick = "") {
  const nodes = []
  let done = 0
  for (const found of text.matchAll(URL_LIKE)) {
    const address = withoutEnd(found[0])
    const link = linkTo(address)
    if (!link) continue
    nodes.push(...marked(text.slice(done, found.index), nick), link)
    done = found.index + address.length
  }
  nodes.push(...marked(text.slice(done), nick))
  return nodes
}

/** Whether `text` has `nick` as a word of its own. */
export function mentions(text, nick) {
  return nick !== "" && text.search(mentionOf(nick)) >= 0
}

function mentionOf(nick) {
  const escaped = nick.replace(/[.*+?^${}()|[\]\\\-]/g, "\\$&")
  return new RegExp(`(?<![\\p{L}\\p{N}\\p{M}_])${escaped}(?![\\p{L}\\p{N}\\p{M}_])`, "giu")
}

function marked(text, nick) {
  const nodes = []
  let done = 0
  for (const found of nick ? text.matchAll(mentionOf(nick)) : []) {
    nodes.push(document.createTextNode(text.slice(done, found.index)), element("mark", "mention", found[0]))
    done = found.index + found[0].length
  }
  if (done < text.length) nodes.push(document.createTextNode(text.slice(done)))
  return nodes
}

/** An address without what ends the sentence around it: punctuation, and brackets that it did not open. */
function withoutEnd(address) {
  for (;;) {
    const last = address.at(-1)
    const opening = CLOSING[last]
    const unopened = opening && address.split(opening).length < address.split(last).length
    if (!unopened && !/[.,:;!?'’”»…*_~]/u.test(last)) return address
    address = address.slice(0, -1)
  }
}

function linkTo(address) {
  let url
  try {
    url = new URL(address)
  } catch {
    return null
  }
  // What stands before an @ could pass for the host.
  if (!["http:", "https:"].includes(url.protocol) || url.username || url.password) return null
  const link = element("a", "", address)
  link.href = url.href
  link.title = url.href // with the host as it is asked for, whatever its letters look like
  link.target = "_blank"
  link.rel = "noopener noreferrer nofollow"
  link.dir = "ltr"
  return link
}

/** The class of a person's colour: the same wherever they are, and in any case. */
export function hueOf(nick) {
  let hash = 0x811c9dc5 // FNV-1a, and a last mixing, for names are short
  for (const sign of nick.toLowerCase()) hash = Math.imul(hash ^ sign.codePointAt(0), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d)
  return `hue-${(hash >>> 8) % HUES}`
}

/** What stands in the square beside a name. */
export function initialOf(nick) {
  const begin = nick.replace(/^[-_.']+/, "") || nick
  // A letter with its accents, or an emoji with what belongs to it.
  const first = Intl.Segmenter ? [...new Intl.Segmenter().segment(begin)][0]?.segment : [...begin][0]
  return (first ?? "").toUpperCase()
}

/** The square beside a name. */
export function markOf(nick) {
  const mark = element("span", `mark ${hueOf(nick)}`, initialOf(nick))
  mark.ariaHidden = "true"
  return mark
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" })
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" })
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" })
const dayAndYear = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" })
const short = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" })

/** A `<time>` with the hour and minute, or with the day too. */
export function timeOf(time_ms, withDay = false) {
  const date = new Date(time_ms)
  const made = element("time", "", (withDay ? short : clock).format(date))
  made.dateTime = date.toISOString()
  made.title = exact.format(date)
  return made
}

/** The day of a time, for people. */
export function dayOf(time_ms) {
  const date = new Date(time_ms)
  return (date.getFullYear() === new Date().getFullYear() ? day : dayAndYear).format(date)
}

/** Whether two times lie on one day of the reader's. */
export function sameDay(one_ms, other_ms) {
  return new Date(one_ms).toDateString() === new Date(other_ms).toDateString()
}

/** `1 message`, `3 messages`. */
export function counted(count, one, many = `${one}s`) {
  return `${count.toLocaleString()} ${count === 1 ? one : many}`
}
