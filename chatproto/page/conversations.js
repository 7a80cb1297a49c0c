/** The rooms that one is in and the people one talks to alone; and how they are listed at the side. */

import { Log } from "./log.js"
import { loadDraft, loadPrivateRead, loadRead, savePrivateRead, saveRead } from "./place.js"
import { counted, element, hueOf, markOf } from "./text.js"

const MOST_LISTED = 300

/** Names that the server takes for one. */
export function folded(nick) {
  return nick.normalize("NFKC").toLowerCase()
}

const inOrder = new Intl.Collator(undefined, { sensitivity: "base", numeric: true })

/** One room, or one person. `wants` is what its log asks for; each is called with the conversation first. */
export class Conversation {
  constructor(kind, name, wants) {
    this.kind = kind
    this.name = name
    this.epoch = 0
    this.people = new Map() // names as they are written, by what the server takes for one
    this.total = 0
    this.unread = 0
    this.isMentioned = false
    this.isEntered = false
    this.isGone = false // one was put out of it
    this.draft = loadDraft(this.key)
    const bound = Object.entries(wants).map(([name, want]) => [name, (...what) => want(this, ...what)])
    this.log = new Log(this.label, Object.fromEntries(bound))
  }

  get key() {
    return this.kind === "room" ? `room ${this.name}` : `person ${folded(this.name)}`
  }

  get label() {
    return this.kind === "room" ? `Messages in ${this.name}` : `Private messages with ${this.name}`
  }

  get isRoom() {
    return this.kind === "room"
  }

  /** Everybody who is there is one of these; there may be more. */
  setPeople(nicks, total) {
    this.people = new Map(nicks.map((nick) => [folded(nick), nick]))
    this.total = total
  }

  addPerson(nick) {
    if (!this.people.has(folded(nick))) this.total += 1
    this.people.set(folded(nick), nick)
  }

  removePerson(nick) {
    this.people.delete(folded(nick))
    this.total = Math.max(this.people.size, this.total - 1)
  }

  /** Whether that person was there under the old name. */
  renamePerson(old, now) {
    if (!this.people.delete(folded(old))) return false
    this.people.set(folded(now), now)
    return true
  }

  /** The names in the order of the alphabet. */
  get names() {
    return [...this.people.values()].sort(inOrder.compare)
  }

  /** Somebody else said something that has not been seen. */
  count(isMention, seq) {
    if (!this.unread && this.isRoom && this.log.newAfter === null) this.log.newAfter = seq - 1
    this.unread += 1
    this.isMentioned ||= isMention
  }

  /** Everything has been seen; whether that is new. */
  markRead() {
    const was = this.unread
    this.unread = 0
    this.isMentioned = false
    if (this.isRoom && this.log.last !== null) saveRead(this.name, this.epoch, this.log.last)
    if (!this.isRoom && this.log.lastTime > loadPrivateRead(this.key)) savePrivateRead(this.key, this.log.lastTime)
    return was > 0
  }

  /** The line where one left off is of no use any more. */
  forgetLine() {
    if (!this.unread) this.log.newAfter = null
  }

  /** The number up to which it was read before. */
  get readBefore() {
    return loadRead(this.name, this.epoch)
  }
}

/** The list of conversations of one kind, as buttons. */
export class Tabs {
  constructor(list, onOpen, onLeave) {
    this.#list = list
    this.#onOpen = onOpen
    this.#onLeave = onLeave
  }

  #list
  #onOpen
  #onLeave
  #items = new Map()

  draw(conversations, current) {
    for (const [conversation, item] of this.#items) {
      if (conversations.includes(conversation)) continue
      item.remove()
      this.#items.delete(conversation)
    }
    for (const conversation of conversations) {
      const item = this.#items.get(conversation) ?? this.#make(conversation)
      const [button, leave] = item.children
      const [name, badge] = button.children
      if (name.lastChild.textContent !== conversation.name) {
        name.lastChild.textContent = conversation.name
        if (!conversation.isRoom) name.firstChild.replaceWith(markOf(conversation.name))
      }
      button.ariaCurrent = conversation === current ? "true" : null
      button.classList.toggle("has-unread", conversation.unread > 0)
      badge.hidden = conversation.unread === 0
      badge.firstChild.textContent = conversation.unread > 99 ? "99+" : String(conversation.unread)
      badge.classList.toggle("for-me", conversation.isMentioned || !conversation.isRoom)
      leave.ariaLabel = `${conversation.isRoom ? "Leave" : "Close"} ${conversation.name}`
    }
  }

  #make(conversation) {
    const item = element("li", "tab-item")
    const button = element("button", "tab")
    button.type = "button"
    button.addEventListener("click", () => this.#onOpen(conversation))
    const name = element("span", "tab-name")
    name.append(conversation.isRoom ? element("span", "icon icon-room") : markOf(conversation.name))
    name.append(element("bdi", "", conversation.name))
    const badge = element("span", "badge")
    badge.append(element("span"), element("span", "unseen", " unread"))
    button.append(name, badge)
    const leave = element("button", "icon-button tab-leave")
    leave.type = "button"
    leave.append(element("span", "icon icon-cross"))
    leave.addEventListener("click", () => this.#onLeave(conversation))
    item.append(button, leave)
    this.#list.append(item)
    this.#items.set(conversation, item)
    return item
  }
}

/** The list of who is in a room; each is a button that opens a private conversation. */
export class People {
  constructor(list, title, onOpen) {
    this.#list = list
    this.#title = title
    this.#onOpen = onOpen
  }

  #list
  #title
  #onOpen

  draw(conversation, own) {
    const names = conversation.isRoom ? conversation.names : [own, conversation.name]
    const total = conversation.isRoom ? conversation.total : 2
    this.#title.textContent = conversation.isRoom ? counted(total, "person", "people") : "Only you two"
    const before = new Map([...this.#list.children].map((item) => [item.dataset.nick, item]))
    const items = names.slice(0, MOST_LISTED).map((nick) => {
      const isOwn = nick === own
      const known = before.get(nick)
      return known && known.classList.contains("is-own") === isOwn ? known : this.#make(nick, isOwn)
    })
    const rest = total - items.length
    if (rest > 0) items.push(element("li", "rest", `and ${rest.toLocaleString()} more`))
    const kept = new Set(items)
    for (const item of [...this.#list.children]) if (!kept.has(item)) item.remove()
    let at = this.#list.firstElementChild
    for (const item of items) {
      if (item === at) at = at.nextElementSibling
      else this.#list.insertBefore(item, at)
    }
  }

  #make(nick, isOwn) {
    const item = element("li", isOwn ? "is-own" : "")
    item.dataset.nick = nick
    if (isOwn) {
      const line = element("span", "person")
      line.append(markOf(nick), element("bdi", `nick ${hueOf(nick)}`, nick), element("span", "you", "you"))
      item.append(line)
      return item
    }
    const button = element("button", "person")
    button.type = "button"
    button.title = "Talk in private"
    button.append(markOf(nick), element("bdi", `nick ${hueOf(nick)}`, nick))
    button.addEventListener("click", () => this.#onOpen(nick))
    item.append(button)
    return item
  }
}
