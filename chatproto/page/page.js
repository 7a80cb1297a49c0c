/** The page: brings the chat (chat.js), what is seen of it and what a person does together. */

import { announce, announceMessage } from "./announcer.js"
import { drawBanner } from "./banner.js"
import { Chat } from "./chat.js"
import { COMMANDS, parse } from "./commands.js"
import { Composer } from "./composer.js"
import { Conversation, folded, People, Tabs } from "./conversations.js"
import { closeDrawer, makeDrawer } from "./drawers.js"
import { hideEntry, nextName, onEntry, sentence, showEntry, waitForEntry } from "./entry.js"
import {
  answerForNick,
  forgetPrivate,
  isHeldElsewhere,
  loadPlace,
  loadPrivate,
  loadPrivateRead,
  saveDraft,
  savePlace,
  savePrivate,
  tabStorage,
} from "./place.js"
import { fillGap, loadAround, loadNewer, loadNewest, loadOlder } from "./reading.js"
import { showSearch } from "./search.js"
import { counted, element, hueOf, initialOf, mentions } from "./text.js"

const TITLE = "chat"
const LEFT = 7 // the code of what one did oneself

const at = (id) => document.getElementById(id)
const chatUrl = () => new URL("chat", location.href.replace(/^http/, "ws").replace(/[?#].*$/s, ""))

const place = loadPlace()
let chat = null
let conversations = []
let current = null
let wasOpen = false
let epoch = 0

const composer = new Composer(at("composer"), submit)
const roomTabs = new Tabs(at("room-list"), open, leave)
const personTabs = new Tabs(at("person-list"), open, leave)
const people = new People(at("people-list"), at("people-title"), (nick) => open(person(nick)))

// --- coming and going ---------------------------------------------------------------------------------------

function roomInAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1))
  } catch {
    return ""
  }
}

async function begin() {
  at("server").textContent = location.host
  const asked = roomInAddress()
  if (asked) place.current = asked
  if (!place.entered) return showEntry(place.nick, entryTitle())
  showChat()
  // It may be another tab that has the name, e.g. the one that this is a copy of.
  enter(place.nick, null, !(await isHeldElsewhere(place.nick)))
}

function entryTitle() {
  return place.current && roomInAddress() ? `Join ${place.current}` : "Join the chat"
}

function enter(nick, credentials, held = false) {
  chat?.suspend()
  waitForEntry(true)
  chat = new Chat({ url: chatUrl(), nick, held, storage: tabStorage })
  for (const [type, hear] of Object.entries(heard)) chat.addEventListener(type, (event) => hear(event.detail))
  if (credentials) chat.login(credentials.user, credentials.secret)
  // What opens the session comes first; it is what one sees.
  const rooms = place.current ? [place.current, ...place.rooms] : place.rooms
  const entering = chat
  for (const room of new Set(rooms.length ? rooms : [""])) {
    chat.join(room).catch((error) => entering.session && error.code !== LEFT && notEntered(room, error.message))
  }
}

function showChat() {
  hideEntry()
  at("chat").hidden = false
}

function quit() {
  // What one has not said yet shall not be said by whoever comes in next.
  for (const said of chat?.waiting ?? []) chat.forget(said)
  chat?.stop()
  chat = null
  savePlace({ ...place, entered: false })
  place.entered = false
  forgetPrivate()
  for (const conversation of conversations) conversation.log.element.remove()
  conversations = []
  current = null
  wasOpen = false
  closeDrawer()
  at("chat").hidden = true
  document.title = TITLE
  showEntry(place.nick, entryTitle())
}

function remember() {
  if (!chat?.session) return
  place.nick = chat.nick
  place.rooms = conversations.filter((known) => known.isRoom && !known.isGone).map((known) => known.name)
  place.current = current?.isRoom ? current.name : place.rooms[0] ?? ""
  place.entered = true
  place.epoch = epoch
  savePlace(place)
}

// --- conversations ------------------------------------------------------------------------------------------

const wants = {
  older: (conversation) => loadOlder(chat, conversation),
  newer: (conversation) => loadNewer(chat, conversation),
  fill: (conversation, gap) => fillGap(chat, conversation, gap),
  again: (conversation, said) => {
    removeSaid(conversation, said)
    say(conversation, said.text)
  },
  takeBack: (conversation, said) => {
    removeSaid(conversation, said)
    composer.text = composer.text ? `${said.text}\n${composer.text}` : said.text
    composer.focus()
  },
  read: (conversation) => {
    if (conversation.markRead()) drawTabs()
    if (conversation === current) drawNewest()
  },
  moved: (conversation) => conversation === current && drawNewest(),
}

function removeSaid(conversation, said) {
  conversation.log.dropPending(said)
  chat.forget(said)
}

function room(name) {
  return conversations.find((known) => known.isRoom && known.name === name) ?? add(new Conversation("room", name, wants))
}

function person(nick) {
  const known = conversations.find((other) => !other.isRoom && folded(other.name) === folded(nick))
  return known ?? add(new Conversation("person", nick, wants))
}

function add(conversation) {
  conversations.push(conversation)
  conversation.log.nick = chat.nick
  at("logs").append(conversation.log.element)
  drawTabs()
  return conversation
}

function open(conversation) {
  closeDrawer()
  if (current && current !== conversation) {
    current.draft = composer.text
    current.log.hide()
    current.forgetLine()
  }
  if (current !== conversation) {
    current = conversation
    composer.text = conversation.draft
    conversation.log.show()
  }
  const address = conversation.isRoom ? `#${encodeURIComponent(conversation.name)}` : location.pathname
  history.replaceState(null, "", address)
  drawHead()
  drawTabs()
  drawPeople()
  drawNewest()
  remember()
  if (matchMedia("(hover: hover)").matches) composer.focus()
}

async function leave(conversation) {
  if (conversation.isRoom && chat?.rooms.includes(conversation.name)) {
    if (chat.rooms.length === 1) return quit()
    chat.leave(conversation.name).catch(() => {})
  }
  remove(conversation)
}

function remove(conversation) {
  conversations = conversations.filter((known) => known !== conversation)
  conversation.log.element.remove()
  saveDraft(conversation.key, "")
  if (current === conversation) {
    current = null
    if (conversations.length) open(conversations[0])
  }
  drawTabs()
  remember()
}

// --- what is said -------------------------------------------------------------------------------------------

function submit(text) {
  if (!current) return false
  const asked = parse(text)
  if (asked.fault) return note(asked.fault)
  if (asked.say !== undefined) return say(current, asked.say)
  perform(asked).catch((error) => note(sentence(error.message)))
  return true
}

function say(conversation, text) {
  if (conversation.isGone) return note(`You are not in ${conversation.name} any more; /join ${conversation.name} enters it again.`)
  try {
    const said = conversation.isRoom ? chat.say(conversation.name, text) : chat.tell(conversation.name, text)
    conversation.forgetLine()
    conversation.log.addPending(said)
    loadNewest(chat, conversation)
    return true
  } catch (error) {
    return note(sentence(error.message))
  }
}

/** A line of the page's own, for what did not happen; false. */
function note(text) {
  current?.log.addNote(text)
  current?.log.toEnd()
  announce(text)
  return false
}

async function perform(asked) {
  switch (asked.command) {
    case "join":
      return join(asked.rest)
    case "leave": {
      const left = asked.rest ? conversations.find((known) => known.name === asked.rest) : current
      return left ? leave(left) : note(`You are not in ${asked.rest}.`)
    }
    case "nick":
      return void (await chat.rename(asked.rest))
    case "who":
      if (!current.isRoom) return note(`This is between you and ${current.name}.`)
      setRoster(await chat.who(current.name))
      return note(`In ${current.name}: ${current.names.join(", ")}`)
    case "msg": {
      const to = person(asked.nick)
      open(to)
      return void say(to, asked.text)
    }
    case "moderate":
      return void (await chat.moderate(asked.action, current.isRoom ? current.name : "", asked.nick, asked.seconds, asked.reason))
    case "search":
      return search(asked.rest)
    case "history":
      current.log.scrollBy(-1)
      return current.log.element.focus()
    case "help":
      return at("help").showModal()
    case "quit":
      return quit()
  }
}

async function join(name) {
  const entered = await chat.join(name)
  open(room(entered.room))
}

function search(query) {
  if (!current?.isRoom) return note("Private messages are kept nowhere, so they cannot be searched.")
  const searched = current
  return showSearch(searched.name, query, {
    find: (words) => chat.search(searched.name, words, 50),
    goTo: (seq) => goTo(searched, seq),
  })
}

/** Show a message of a room among those around it. */
async function goTo(conversation, seq) {
  open(conversation)
  await loadAround(chat, conversation, seq)
  conversation.log.element.focus()
}

// --- what is heard ------------------------------------------------------------------------------------------

const isSeen = (conversation) => conversation === current && !document.hidden && conversation.log.atEnd

function setRoster({ room: name, nicks, total }) {
  const known = room(name)
  known.setPeople(nicks, total)
  if (known === current) drawPeople()
}

/** Something came from somebody else. */
function hear(conversation, message) {
  const isMention = mentions(message.text, chat.nick)
  if (!isSeen(conversation)) conversation.count(isMention, message.seq ?? 0)
  if (conversation.isRoom) conversation.log.addLive(message)
  else conversation.log.addPrivate(message)
  if (conversation === current || isMention || !conversation.isRoom) {
    const where = conversation === current ? "" : conversation.isRoom ? ` in ${conversation.name}` : " in private"
    announceMessage(message.nick + where, message.text)
  }
  drawTabs()
  drawNewest()
}

const heard = {
  state: (change) => drawBanner(change, wasOpen, place.entered),

  welcome: (message) => {
    if (epoch === 0 && place.epoch && place.epoch !== message.epoch) place.isAnew = true
    epoch = message.epoch
    showChat()
    showOwnNick()
    restorePrivate()
  },

  entered: (detail) => {
    const known = room(detail.room)
    const { log } = known
    const isFirst = !known.isEntered
    known.isEntered = true
    known.isGone = false
    known.epoch = epoch
    log.nick = chat.nick
    known.setPeople(detail.nicks, detail.total)
    const others = detail.chats.filter((message) => message.nick !== chat.nick)
    if (isFirst) {
      log.newAfter = known.readBefore || null
      if (place.isAnew) log.addNote("The server began anew since you were here. What was said before may be missing.")
    }
    const since = isFirst ? known.readBefore : 0
    const unread = isFirst && !since ? [] : others.filter((message) => message.seq > since)
    for (const message of unread) known.count(mentions(message.text, chat.nick), message.seq)
    if (isFirst || !detail.resumed) log.older = detail.older
    if (!log.newer) log.addChats(detail.chats)
    for (const said of chat.waiting) if (said.room === known.name) log.addPending(said)
    if (!current || (isFirst && place.current === known.name)) open(known)
    else if (unread.length && known === current) announce(`${counted(unread.length, "message")} came meanwhile`)
    if (known === current) {
      drawHead()
      drawPeople()
    }
    drawTabs()
    remember()
  },

  chat: (message) => {
    const known = room(message.room)
    if (message.nick === chat.nick) known.log.addChats([message])
    else hear(known, message)
  },

  told: (message) => {
    savePrivate({ with: message.nick, nick: message.nick, text: message.text, time: message.time })
    hear(person(message.nick), { nick: message.nick, text: message.text, time: message.time })
  },

  said: (said) => {
    const known = said.room === null ? person(said.to) : conversations.find((other) => other.isRoom && other.name === said.room)
    if (!known) return
    known.log.nick = chat.nick
    if (said.state === "waiting") return known.log.addPending(said)
    known.log.settle(said)
    if (said.state === "refused") announce(`Not sent: ${sentence(said.error.message)}`)
    else if (said.to !== null) savePrivate({ with: said.to, nick: chat.nick, text: said.text, time: said.time, own: true })
  },

  joined: ({ room: name, nick }) => {
    const known = room(name)
    known.addPerson(nick)
    known.log.addPresence(nick)
    if (known === current) drawPeople()
  },

  left: ({ room: name, nick, reason }) => {
    const known = room(name)
    if (nick === chat.nick) {
      if (chat.rooms.includes(name)) return
      known.isGone = true
      known.setPeople([], 0)
      known.log.addNote("You were put out of this room.")
      announce(`You were put out of ${name}.`)
    } else {
      known.removePerson(nick)
      known.log.addPresence(nick, reason)
    }
    if (known === current) drawPeople()
    drawHead()
  },

  renamed: ({ old, new: now }) => {
    const isOwn = chat.nick === now
    for (const known of conversations) {
      known.log.nick = chat.nick
      if (known.isRoom ? known.renamePerson(old, now) : folded(known.name) === folded(old)) {
        known.log.addNote(isOwn ? `You are ${now} now.` : `${old} is ${now} now.`)
        if (!known.isRoom) known.name = now
      }
    }
    if (isOwn) showOwnNick()
    drawTabs()
    drawHead()
    drawPeople()
    remember()
  },

  roster: setRoster,

  missing: ({ room: name, first, last }) => {
    const known = room(name)
    if (last) known.log.addGap(first, last)
    else known.log.beginAnew("The server began anew here. What was said in between may be missing.")
  },

  notice: ({ text }) => note(text),

  refused: (refusal) => {
    if (refusal.room) return notEntered(refusal.room, refusal.text)
    const { nick } = chat
    place.entered = false
    at("chat").hidden = true
    if ([6, 12, 14].includes(refusal.code)) place.current = ""
    showEntry(nick, wasOpen ? "Come back in" : entryTitle(), refusal)
  },
}

/** The server does not let one into a room, or not again. */
function notEntered(name, why) {
  const known = conversations.find((other) => other.isRoom && other.name === name)
  if (known) {
    known.isGone = true
    known.setPeople([], 0)
  }
  remember()
  note(`${name}: ${sentence(why)}`)
  drawPeople()
}

/** Private messages are in no history: show again what this tab had. */
function restorePrivate() {
  if (wasOpen) return
  wasOpen = true
  for (const { with: nick, ...message } of loadPrivate()) {
    const known = person(nick)
    if (!message.own && message.time > loadPrivateRead(known.key)) known.count(false, 0)
    known.log.addPrivate(message)
  }
  for (const said of chat.waiting) if (said.to !== null) person(said.to).log.addPending(said)
}

// --- what is seen -------------------------------------------------------------------------------------------

function showOwnNick() {
  at("own-nick").textContent = chat.nick
  at("own-mark").textContent = initialOf(chat.nick)
  at("own-mark").className = `mark ${hueOf(chat.nick)}`
}

function drawTabs() {
  const isRoom = (known) => known.isRoom
  const persons = conversations.filter((known) => !known.isRoom)
  roomTabs.draw(conversations.filter(isRoom), current)
  personTabs.draw(persons, current)
  at("persons-title").hidden = at("person-list").hidden = !persons.length
  const elsewhere = conversations.filter((known) => known !== current).some((known) => known.unread)
  at("unread-elsewhere").hidden = !elsewhere
  const unread = conversations.reduce((sum, known) => sum + known.unread, 0)
  document.title = `${unread ? `(${unread}) ` : ""}${current ? `${current.name} · ` : ""}${TITLE}`
}

function drawHead() {
  if (!current) return
  at("room-name").textContent = current.name
  const about = current.isRoom ? counted(current.total, "person", "people") : "in private: nobody else sees this"
  at("room-about").textContent = current.isGone ? "you are not in this room any more" : about
  at("show-search").hidden = !current.isRoom
  composer.label = current.isRoom ? `Message in ${current.name}` : `Message to ${current.name} alone`
}

function drawPeople() {
  if (!current) return
  people.draw(current, chat.nick)
  drawHead()
}

function drawNewest() {
  const button = at("newest")
  if (!current) return
  const { log } = current
  button.hidden = log.atEnd && !log.newer
  button.textContent = log.unseen ? counted(log.unseen, "new message") : "Newest messages"
  button.classList.toggle("has-unseen", log.unseen > 0)
}

// --- what a person does -------------------------------------------------------------------------------------

onEntry((nick, credentials) => enter(nick, credentials))
makeDrawer(at("rooms"), at("show-rooms"))
makeDrawer(at("people"), at("show-people"))
answerForNick(() => chat?.session && chat.nick)

for (const [command, meaning] of COMMANDS) {
  const row = element("div")
  const term = element("dt")
  term.append(element("code", "", command))
  row.append(term, element("dd", "", meaning))
  at("help-commands").append(row)
}

composer.onInput = (text) => current && saveDraft(current.key, text)
composer.namesThatBegin = (begun) => {
  const names = current?.names ?? []
  return names.filter((name) => name !== chat.nick && folded(name).startsWith(folded(begun)))
}

at("join").addEventListener("submit", (event) => {
  event.preventDefault()
  const field = at("join-room")
  const name = field.value.trim()
  if (!name) return
  field.value = ""
  join(name).catch((error) => note(sentence(error.message)))
})

at("newest").addEventListener("click", () => {
  loadNewest(chat, current)
  composer.focus()
})
at("show-search").addEventListener("click", () => search(""))
at("show-help").addEventListener("click", () => at("help").showModal())
at("quit").addEventListener("click", quit)
at("banner-now").addEventListener("click", () => chat.wake())
at("banner-other").addEventListener("click", () => {
  const { nick } = chat
  chat.suspend()
  at("chat").hidden = true
  showEntry(nextName(nick), entryTitle())
})

at("rename").addEventListener("click", () => {
  at("name-nick").value = chat.nick
  at("name-fault").textContent = ""
  at("name-nick").ariaInvalid = null
  at("name").showModal()
  at("name-nick").select()
})
at("name-form").addEventListener("submit", async (event) => {
  event.preventDefault()
  try {
    await chat.rename(at("name-nick").value.trim())
    at("name").close()
  } catch (error) {
    at("name-fault").textContent = sentence(error.message)
    at("name-nick").ariaInvalid = "true"
    at("name-nick").focus()
  }
})

document.addEventListener("keydown", (event) => {
  if (!current || document.querySelector("dialog[open]")) return
  if (event.altKey && ["ArrowUp", "ArrowDown"].includes(event.key)) {
    event.preventDefault()
    const order = [...conversations.filter((known) => known.isRoom), ...conversations.filter((known) => !known.isRoom)]
    const step = event.key === "ArrowUp" ? order.length - 1 : 1
    open(order[(order.indexOf(current) + step) % order.length])
  } else if (event.key === "Escape") {
    if (!closeDrawer() && !event.isComposing) loadNewest(chat, current)
  } else if (["PageUp", "PageDown"].includes(event.key) && composer.hasFocus) {
    event.preventDefault()
    current.log.scrollBy(event.key === "PageUp" ? -1 : 1)
  } else if (event.key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey && event.key !== " ") {
    if (document.activeElement === current.log.element || document.activeElement === document.body) composer.focus()
  }
})

document.addEventListener("visibilitychange", () => {
  if (!current) return
  if (document.hidden) current.forgetLine()
  else if (current.log.atEnd && !current.log.newer) current.log.toEnd()
})

addEventListener("hashchange", () => {
  const name = roomInAddress()
  if (name && name !== current?.name && chat?.session) join(name).catch((error) => note(sentence(error.message)))
})

// The name is free for the next page before that asks for it.
addEventListener("pagehide", () => {
  if (current) saveDraft(current.key, composer.text)
  chat?.suspend()
})
addEventListener("pageshow", (event) => event.persisted && place.entered && chat?.start())

begin()
