/** What is seen of one conversation: a stretch of its messages, and what happened between them. */

import { sentence } from "./entry.js"
import { ACTION, counted, dayOf, element, hueOf, markOf, mentions, nodesOf, sameDay, timeOf } from "./text.js"

const NEAR_PX = 400
const AT_END_PX = 48
const FOLLOWS_MS = 5 * 60_000
const MOST_AT_END = 400
const KEPT_AT_END = 300
const MOST_AWAY = 1_200
const KEPT_AWAY = 900

const LEFT = {
  left: "left",
  closed: "left",
  timeout: "lost the connection",
  "too slow": "was too slow",
  kicked: "was put out",
  shutdown: "left, as the server ended",
  error: "was cut off",
}

/**
 * The messages of a room have numbers without holes, and what is shown is one stretch of them: `older` and
 * `newer` say whether there is more on either side. It never has more than some hundred rows: while one is at its end
 * the oldest go, while one reads what was long ago the newest do, and they are loaded again when they are wanted.
 *
 * What began anew (`beginAnew`) has other numbers than what was before; rows keep the age that they are from.
 *
 * *wants* is what the log asks of the page: `older()`, `newer()` and `fill(gap)` for messages, `again(said)` and
 * `takeBack(said)` for what was refused; it tells of `read()`, all has been seen, and `moved()`, one reads elsewhere.
 */
export class Log {
  constructor(label, wants) {
    this.wants = wants
    this.nick = ""
    this.older = false
    this.newer = false
    this.unseen = 0
    this.newAfter = null // the line where one left off stands after this number
    this.atEnd = true
    this.element = element("div", "log")
    this.element.role = "log"
    this.element.ariaLive = "off" // the page announces what is new; what was loaded is only there to be read
    this.element.tabIndex = 0
    this.element.hidden = true
    this.label = label
    this.#list = element("div", "rows")
    this.element.append(this.#list)
    this.element.addEventListener("scroll", () => this.#scrolled(), { passive: true })
    this.#resized = new ResizeObserver(() => this.atEnd && this.#toEnd())
    this.#resized.observe(this.element)
    this.#resized.observe(this.#list)
  }

  #list
  #resized
  #rows = []
  #pending = []
  #age = 0
  #scrollTop = 0
  #drawing = false
  #busy = false
  #top = null

  set label(text) {
    this.element.ariaLabel = text
  }

  /** The first and last number that is shown; null where there is none. */
  get first() {
    return this.#numbered().at(0)?.seq ?? null
  }

  get last() {
    return this.#numbered().at(-1)?.seq ?? null
  }

  /** When the newest row is from, in ms. */
  get lastTime() {
    return this.#rows.at(-1)?.time ?? 0
  }

  get isEmpty() {
    return !this.#rows.length && !this.#pending.length
  }

  has(seq) {
    return this.#numbered().some((row) => row.seq === seq)
  }

  #numbered() {
    return this.#rows.filter((row) => row.kind === "message" && row.age === this.#age && row.seq > 0)
  }

  // --- what is in it

  /** Messages of the room, in any order; those that are there already change nothing. */
  addChats(chats) {
    for (const chat of chats) this.#insert({ kind: "message", ...chat, own: chat.nick === this.nick })
    this.#draw()
  }

  /** A message that was just said by somebody. While one reads elsewhere it only counts. */
  addLive(chat) {
    if (!this.atEnd || this.element.hidden || document.hidden) this.unseen += 1
    if (!this.newer) this.addChats([chat])
  }

  /** A private message, which has no number; in the order in which they come. */
  addPrivate(message) {
    this.#rows.push({ kind: "message", seq: 0, age: this.#age, ...message })
    if (!message.own && (!this.atEnd || this.element.hidden || document.hidden)) this.unseen += 1
    this.#draw()
  }

  /** A line of the page's own. */
  addNote(text, time = Date.now()) {
    this.#rows.push({ kind: "note", age: this.#age, time, text })
    this.#draw()
  }

  /** Somebody came (without a reason) or went; one line for all that happens between two messages. */
  addPresence(nick, reason = null) {
    let row = this.#rows.at(-1)
    if (row?.kind !== "presence") {
      this.#rows.push((row = { kind: "presence", age: this.#age, time: Date.now(), people: new Map() }))
    }
    const did = reason === null ? "came" : (LEFT[reason] ?? "left")
    const before = row.people.get(nick)
    if (before && reason === null) row.people.set(nick, before === "came" ? "came" : "was away for a moment")
    else row.people.set(nick, before === "came" ? "came and left" : did)
    row.element?.remove()
    row.element = null
    this.#draw()
  }

  /** What one said and the server has not answered. It stands at the end. */
  addPending(said) {
    if (!this.#pending.some((row) => row.said === said)) {
      this.#pending.push({ kind: "message", said, own: true, nick: this.nick, text: said.text, time: Date.now() })
    }
    this.#draw()
  }

  /** Something about it has changed: it has its place in the room, or was refused. */
  settle(said) {
    const row = this.#pending.find((pending) => pending.said === said)
    if (!row) return
    row.element?.remove()
    row.element = null
    if (said.state === "acknowledged") {
      this.dropPending(said)
      if (this.newer) return
      const { seq, time, text } = said
      if (seq) this.addChats([{ seq, time, text, nick: this.nick, room: said.room }])
      else this.addPrivate({ time, text, nick: this.nick, own: true })
    }
    this.#draw()
  }

  dropPending(said) {
    this.#pending = this.#pending.filter((row) => row.said !== said)
    this.#draw()
  }

  /** Messages are missing; it says so, unless they can be had after all. */
  addGap(first, last) {
    const gap = { kind: "gap", age: this.#age, seq: first, last, time: Date.now(), filled: false }
    if (this.first !== null && first < this.first) return this.#addOlder()
    this.#insert(gap)
    this.#draw()
    this.wants.fill(gap)
  }

  #addOlder() {
    this.older = true
    this.#draw()
  }

  /** What could be had of a gap is there. */
  fillGap(gap, chats, older) {
    if (!this.#rows.includes(gap)) return // it lies beyond what is shown by now
    gap.filled = !older
    for (const chat of chats) this.#insert({ kind: "message", ...chat, own: chat.nick === this.nick })
    const there = new Set(this.#numbered().map((row) => row.seq))
    while (gap.last >= gap.seq && there.has(gap.last)) gap.last -= 1
    if (gap.last < gap.seq) this.#rows = this.#rows.filter((row) => row !== gap)
    gap.element?.remove()
    gap.element = null
    this.#draw()
  }

  /** The numbers of the room begin anew; what is shown stays, above a line that says so. */
  beginAnew(text) {
    this.#age += 1
    this.newAfter = null
    this.older = this.newer = false
    if (!this.isEmpty) this.#rows.push({ kind: "anew", age: this.#age, time: Date.now(), text })
    this.#draw()
  }

  /** Forget what is shown, to show another stretch. */
  clear() {
    this.#rows = []
    this.#draw()
  }

  /** Whether more is being loaded. */
  set busy(busy) {
    this.#busy = busy
    this.#draw()
  }

  // --- what is seen of it

  show() {
    this.element.hidden = false
    this.#drawNow()
    if (this.atEnd) this.#toEnd()
    else this.element.scrollTop = this.#scrollTop
  }

  hide() {
    this.#scrollTop = this.element.scrollTop
    this.element.hidden = true
  }

  /** Go to the newest message that is loaded. */
  toEnd() {
    this.atEnd = true
    this.#drawNow()
    this.#toEnd()
    this.#seen()
  }

  scrollBy(pages) {
    this.element.scrollBy({ top: pages * this.element.clientHeight * 0.85 })
  }

  /** Show one message in the middle, and mark it for a moment. */
  point(seq) {
    this.#drawNow()
    const row = this.#numbered().find((numbered) => numbered.seq === seq)
    if (!row) return false
    this.atEnd = false
    row.element.scrollIntoView({ block: "center" })
    row.element.classList.add("pointed")
    setTimeout(() => row.element?.classList.remove("pointed"), 2_500)
    return true
  }

  /** Whatever is at the end has been seen. */
  #seen() {
    if (this.newer || this.element.hidden || document.hidden) return
    this.unseen = 0
    this.wants.read()
  }

  #toEnd() {
    this.element.scrollTop = this.element.scrollHeight
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.element
    if (this.element.hidden || !clientHeight) return
    const below = scrollHeight - clientHeight - scrollTop
    this.atEnd = below < AT_END_PX && !this.newer
    if (this.atEnd) this.#seen()
    else this.wants.moved()
    if (scrollTop < NEAR_PX && this.older && !this.#busy) this.wants.older()
    if (below < NEAR_PX && this.newer && !this.#busy) this.wants.newer()
  }

  /** Put a numbered row where it belongs. */
  #insert(row) {
    row.age = this.#age
    const rows = this.#rows
    let at = rows.length
    let next = null // the numbered row that comes after it
    while (at > 0) {
      const before = rows[at - 1]
      if (before.age !== row.age) break
      if (before.seq) {
        if (before.seq === row.seq && before.kind === row.kind) return
        if (before.seq <= row.seq) break
        next = before
      }
      at -= 1
    }
    if (next === null) rows.push(row)
    else if (at > 0 && rows[at - 1].age === row.age && rows[at - 1].seq) rows.splice(at, 0, row)
    else rows.splice(rows.indexOf(next), 0, row)
  }

  /** Keep the number of rows bounded, at the end that is further away. */
  #trim() {
    if (this.atEnd && !this.newer && this.#rows.length > MOST_AT_END) {
      this.#rows = this.#rows.slice(-KEPT_AT_END)
      this.older = true
    } else if (!this.atEnd && this.#rows.length > MOST_AWAY) {
      const numbered = this.#numbered()
      // What is seen decides which end is the further one.
      const isNearTop = this.element.scrollTop < this.element.scrollHeight / 2
      if (isNearTop && numbered.length > KEPT_AWAY) {
        this.#rows = this.#rows.slice(0, KEPT_AWAY)
        this.newer = true
      } else {
        this.#rows = this.#rows.slice(-KEPT_AWAY)
        this.older = true
      }
    }
  }

  /** Show what changed, once for all changes of this moment. */
  #draw() {
    if (this.#drawing) return
    this.#drawing = true
    queueMicrotask(() => this.#drawNow())
  }

  #drawNow() {
    this.#drawing = false
    this.#trim()
    const wanted = this.#wanted()
    const kept = new Set(wanted)
    const list = this.#list
    const anchor = this.element.hidden || this.atEnd ? null : this.#anchor(kept)
    for (const node of [...list.children]) if (!kept.has(node)) node.remove()
    let at = list.firstElementChild
    for (const node of wanted) {
      if (node === at) at = at.nextElementSibling
      else list.insertBefore(node, at)
    }
    if (this.element.hidden) return
    if (anchor) this.element.scrollTop += anchor.node.getBoundingClientRect().top - anchor.top
    else if (this.atEnd) this.#toEnd()
    if (this.atEnd) this.#seen()
    else this.wants.moved()
    const isShort = this.element.scrollHeight <= this.element.clientHeight
    if (isShort && this.older && !this.#busy && this.element.clientHeight) this.wants.older()
  }

  /** The first row that is seen and stays: it shall not move. */
  #anchor(kept) {
    const { top } = this.element.getBoundingClientRect()
    for (const node of this.#list.children) {
      const box = node.getBoundingClientRect()
      if (box.bottom > top && kept.has(node) && node.dataset.anchor !== undefined) return { node, top: box.top }
    }
    return null
  }

  /** All elements that are to be seen, in their order. */
  #wanted() {
    const wanted = []
    if (this.older || this.#busy) wanted.push((this.#top ??= element("p", "loading", "loading what was said before…")))
    let before = null
    let isNewMarked = false
    for (const row of this.newer ? this.#rows : [...this.#rows, ...this.#pending]) {
      if (row.kind !== "gap" && (!before || !sameDay(before.time, row.time))) {
        const label = dayOf(row.time)
        if (row.day?.dataset.day !== label) {
          row.day = element("p", "day")
          row.day.append(element("span", "", label))
          row.day.dataset.day = label
        }
        wanted.push(row.day)
        before = null
      }
      const isNew = this.newAfter !== null && row.kind === "message" && !row.own && row.age === this.#age
      if (isNew && !isNewMarked && row.seq > this.newAfter) {
        isNewMarked = true
        wanted.push((this.#newLine ??= newLine()))
        before = null
      }
      row.element ??= this.#make(row)
      if (row.kind === "message") row.element.classList.toggle("follows", follows(before, row))
      wanted.push(row.element)
      before = row
    }
    return wanted
  }

  #newLine = null

  #make(row) {
    const made = { message: () => this.#message(row), presence: () => presence(row), gap: () => this.#gap(row) }[row.kind]
    const node = made ? made() : element("p", row.kind === "anew" ? "note anew" : "note", row.text)
    node.dataset.anchor = ""
    return node
  }

  #message(row) {
    const { nick, text, own, said } = row
    const isAction = text.startsWith(ACTION)
    const isForMe = !own && mentions(text, this.nick)
    const node = element("div", "message")
    node.classList.toggle("own", Boolean(own))
    node.classList.toggle("action", isAction)
    node.classList.toggle("for-me", isForMe)
    if (row.seq) node.dataset.seq = row.seq
    const head = element("p", "head")
    head.append(element("bdi", `nick ${hueOf(nick)}`, nick), " ", timeOf(row.time))
    const body = element("p", "text")
    const nodes = nodesOf(isAction ? text.slice(ACTION.length) : text, own ? "" : this.nick)
    if (isAction) {
      const did = element("bdi")
      did.append(...nodes)
      body.append(element("bdi", `nick ${hueOf(nick)}`, nick), " ", did)
    } else {
      body.dir = "auto"
      body.append(...nodes)
    }
    node.append(markOf(nick), head, body)
    if (said) this.#addState(node, said)
    return node
  }

  #addState(node, said) {
    node.classList.add(said.state)
    const state = element("p", "state")
    if (said.state === "waiting") {
      state.textContent = "not sent yet"
    } else {
      state.append(element("span", "", `Not sent: ${sentence(said.error.message)} `))
      const again = element("button", "text-button", "Try again")
      const back = element("button", "text-button", "Take back")
      again.type = back.type = "button"
      again.addEventListener("click", () => this.wants.again(said))
      back.addEventListener("click", () => this.wants.takeBack(said))
      state.append(again, " ", back)
    }
    node.append(state)
  }

  #gap(gap) {
    const node = element("p", "note gap")
    const count = gap.last - gap.seq + 1
    const text = gap.filled
      ? `${counted(count, "message is", "messages are")} missing here: the server has ${count === 1 ? "it" : "them"} no more.`
      : `${counted(count, "message is", "messages are")} missing here.`
    node.append(element("span", "", text))
    if (!gap.filled) {
      const load = element("button", "text-button", "Load them")
      load.type = "button"
      load.addEventListener("click", () => this.wants.fill(gap))
      node.append(" ", load)
    }
    return node
  }
}

function newLine() {
  const line = element("p", "new-line")
  line.append(element("span", "", "new since you were here"))
  return line
}

function follows(before, row) {
  return (
    before?.kind === "message" &&
    before.nick === row.nick &&
    !before.text.startsWith(ACTION) &&
    !row.text.startsWith(ACTION) &&
    row.time - before.time < FOLLOWS_MS
  )
}

function presence(row) {
  const node = element("p", "note presence")
  const people = [...row.people]
  people.slice(0, 12).forEach(([nick, did], index) => {
    if (index) node.append(" · ")
    node.append(element("bdi", "", nick), ` ${did}`)
  })
  if (people.length > 12) node.append(` · and ${people.length - 12} more`)
  return node
}
