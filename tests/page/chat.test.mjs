// What a chat of chat.js does, with a server that is played: joining, resuming, saying, missing, and coming back.

import assert from "node:assert/strict"
import { test } from "node:test"

import { ChatError } from "./module.mjs"
import { chat, chats, EPOCH, inLobby, Page, reconnect, settled, Storage } from "./scripted.mjs"

const seqsOf = (messages) => messages.map(({ seq }) => seq)
const typesOf = (messages) => messages.map(({ type }) => type)

// --- entering ----------------------------------------------------------------------------------------------

test("joining opens the session and gives what was said before", async () => {
  const page = new Page()
  const me = page.chat()
  const entered = me.join("lobby", 50)
  assert.equal(page.socket.url, "ws://test/chat")
  assert.equal(page.socket.subprotocol, "chat.v1.json")
  page.socket.accept()
  const asked = await page.socket.letIn(chats(3, 5), { status: 1, nicks: ["bob", "ann"] })
  assert.deepEqual(asked, [{ type: "join", nick: "ann", room: "lobby", epoch: 0, after: 0, limit: 50 }])
  const detail = await entered
  assert.deepEqual(seqsOf(detail.chats), [3, 4, 5])
  assert.deepEqual([detail.older, detail.resumed, detail.total], [true, false, 2])
  assert.deepEqual(me.of("entered"), [detail])
  assert.deepEqual(me.of("missing"), [])
  assert.deepEqual(me.rooms, ["lobby"])
})

test("the default room is known by its name once the server has said it", async () => {
  const page = new Page()
  const me = page.chat()
  const entered = me.join()
  page.socket.accept()
  await page.socket.letIn([], { room: "hall" })
  assert.equal((await entered).room, "hall")
  assert.deepEqual(me.rooms, ["hall"])
})

test("further rooms are joined once the first has opened the session", async () => {
  const page = new Page()
  const me = page.chat()
  me.join("lobby")
  me.join("ops")
  page.socket.accept()
  await settled()
  assert.deepEqual(page.socket.take(false).map(({ room }) => room), ["lobby"])
  page.socket.say({ type: "welcome", id: 1, nick: "ann", epoch: EPOCH, server: "test" })
  await settled()
  assert.deepEqual(page.socket.take(false).map(({ room }) => room), ["ops"])
})

test("the default room and the same by its name are one room", async () => {
  const page = new Page()
  const me = page.chat()
  const [first, second] = [me.join("lobby"), me.join("")]
  page.socket.accept()
  await page.socket.letIn([])
  page.socket.say({ type: "pong", token: page.socket.lastToken }) // and no roster: one is there already
  await settled()
  assert.deepEqual(typesOf(page.socket.take(false)), ["who"])
  page.socket.say({ type: "roster", room: "lobby", last: 0, total: 1, nicks: ["ann"] })
  page.socket.say({ type: "pong", token: page.socket.lastToken })
  assert.deepEqual([(await first).room, (await second).room], ["lobby", "lobby"])
  assert.deepEqual(me.rooms, ["lobby"])
})

for (const code of [4, 5, 10]) {
  test(`who is not taken (${code}) is told so, and the chat stops`, async () => {
    const page = new Page()
    const me = page.chat()
    const entered = me.join("lobby")
    page.socket.accept()
    await settled()
    page.socket.say({ type: "error", code, id: 0, text: "no" })
    page.socket.take()
    await assert.rejects(entered, ChatError)
    assert.deepEqual(me.of("refused").map(({ code: why, room }) => [why, room]), [[code, ""]])
    assert.equal(me.state, "stopped")
    assert.ok(page.socket.isClosed)
    await page.pass(120_000)
    assert.equal(page.sockets.length, 1)
  })
}

test("a room that one may not enter does not keep one out of the others", async () => {
  const page = new Page()
  const me = page.chat()
  const secret = me.join("secret")
  me.join("lobby")
  page.socket.accept()
  await settled()
  page.socket.say({ type: "error", code: 12, id: 0, text: "ann is banned from secret" })
  page.socket.take()
  await settled()
  await assert.rejects(secret, { code: 12, label: "not-allowed" })
  await page.socket.letIn([])
  assert.equal(me.state, "open")
  assert.deepEqual(me.rooms, ["lobby"])
})

test("who may not go back to a room is told so", async () => {
  const { page, me, socket } = await inLobby()
  me.join("ops")
  await socket.letIn([], { room: "ops", isFirst: false })
  const next = await reconnect(page)
  await next.letIn([])
  next.say({ type: "error", code: 12, id: 0, text: "ann is banned from ops" }, { type: "pong", token: next.lastToken })
  await settled()
  assert.deepEqual(me.of("refused").map(({ code, room }) => [code, room]), [[12, "ops"]])
  assert.deepEqual(me.rooms, ["lobby"])
})

test("a room that is full for who was in it is tried again", async () => {
  const { page, me, socket } = await inLobby()
  me.join("ops")
  await socket.letIn([], { room: "ops", isFirst: false })
  const next = await reconnect(page)
  await next.letIn([])
  next.say({ type: "error", code: 17, id: 0, text: "the room is full" }, { type: "pong", token: next.lastToken })
  await page.pass(6_000)
  assert.deepEqual(next.take().map(({ type, room }) => [type, room]), [["join", "ops"]])
  assert.deepEqual(me.rooms, ["lobby", "ops"])
  assert.deepEqual(me.of("refused"), [])
})

test("a server that is full is tried again by who was there, and not by who was not", async () => {
  const { page, me } = await inLobby()
  const next = await reconnect(page)
  next.say({ type: "error", code: 17, id: 0, text: "the server is full" })
  next.take()
  await settled()
  assert.equal(me.state, "waiting")
  const fresh = new Page()
  const other = fresh.chat()
  other.join("lobby")
  fresh.socket.accept()
  await settled()
  fresh.socket.say({ type: "error", code: 17, id: 0, text: "the server is full" })
  fresh.socket.take()
  await settled()
  assert.equal(other.state, "stopped")
  assert.equal(other.of("refused")[0].code, 17)
})

test("who logs in does so before joining, on each connection", async () => {
  const page = new Page()
  const me = page.chat()
  me.login("ann", "secret")
  me.join("lobby")
  page.socket.accept()
  await settled()
  assert.deepEqual(typesOf(page.socket.take()), ["login", "join"])
  const socket = await reconnect(page)
  assert.deepEqual(typesOf(socket.take()), ["login", "join"])
})

test("who cannot log in is told why, and not that it is necessary", async () => {
  const page = new Page()
  const me = page.chat()
  me.login("ann", "wrong")
  const entered = me.join("lobby")
  page.socket.accept()
  await settled()
  const [, second] = page.socket.sent.filter(({ type }) => type === "ping")
  page.socket.say({ type: "error", code: 11, id: 0, text: "wrong user or secret" }, { type: "pong", token: 1 })
  page.socket.say({ type: "error", code: 10, id: 0, text: "log in before you join" }, { type: "pong", token: second.token })
  await assert.rejects(entered, { code: 11, message: "wrong user or secret" })
  assert.deepEqual(me.of("refused").map(({ code }) => code), [11])
})

// --- hearing -----------------------------------------------------------------------------------------------

test("live messages come each once and in order", async () => {
  const { me, socket } = await inLobby(chats(1, 3))
  socket.say(chat(4, "a"), chat(5, "b"), chat(5, "b"), chat(4, "a"), chat(6, "c"))
  assert.deepEqual(seqsOf(me.of("chat")), [4, 5, 6])
  assert.deepEqual(me.of("missing"), [])
})

test("what the server never sends is told as missing at once", async () => {
  const { me, socket } = await inLobby(chats(1, 3))
  socket.say(chat(7, "later"))
  assert.deepEqual(me.of("missing"), [{ room: "lobby", first: 4, last: 6 }])
  assert.deepEqual(seqsOf(me.of("chat")), [7])
})

test("what one says oneself is no hole in what others say, in whichever order it is acknowledged", async () => {
  const { me, socket } = await inLobby(chats(1, 3))
  const said = [me.say("lobby", "one"), me.say("lobby", "two")]
  socket.say(chat(6, "after both"))
  assert.deepEqual(me.of("missing"), [])
  socket.say({ type: "ack", id: said[1].id, seq: 5, time: 1 })
  assert.deepEqual(me.of("missing"), [])
  socket.say({ type: "ack", id: said[0].id, seq: 4, time: 1 })
  socket.say(chat(7, "and on"))
  assert.deepEqual(me.of("missing"), [])
})

test("a hole that the acknowledgements do not fill is told", async () => {
  const { me, socket } = await inLobby(chats(1, 3))
  const said = me.say("lobby", "one")
  socket.say(chat(6, "later"))
  socket.say({ type: "ack", id: said.id, seq: 5, time: 1 })
  assert.deepEqual(me.of("missing"), [{ room: "lobby", first: 4, last: 4 }])
})

test("what a refused message left open is told", async () => {
  const { me, socket } = await inLobby(chats(1, 3))
  const said = me.say("lobby", "one")
  socket.say(chat(5, "later"))
  socket.say({ type: "error", code: 13, id: said.id, text: "not kept" })
  assert.deepEqual(me.of("missing"), [{ room: "lobby", first: 4, last: 4 }])
})

test("who was too slow gets what comes later, and hears of what is lost", async () => {
  const { me, socket } = await inLobby(chats(1, 3))
  socket.say({ type: "lagged", room: "lobby", first: 6, last: 8 }, ...chats(6, 8), chat(9, "live"))
  assert.deepEqual(me.of("missing"), [{ room: "lobby", first: 4, last: 5 }])
  assert.deepEqual(seqsOf(me.of("chat")), [6, 7, 8, 9])
  assert.equal(me.of("lagged").length, 1)
})

test("messages of a kind that nobody knows yet are passed over", async () => {
  const { me, socket } = await inLobby()
  socket.say({ type: "sung", text: "la" }, { type: "notice", text: "hear" })
  assert.deepEqual(me.of("notice"), [{ type: "notice", text: "hear" }])
})

test("a server that speaks something else is left, and tried again", async () => {
  const { page, me, socket } = await inLobby()
  socket.onmessage({ data: "<html>" })
  assert.ok(socket.isClosed)
  assert.match(me.of("state").at(-1).reason, /does not speak the protocol/)
  await page.attempt()
})

// --- saying ------------------------------------------------------------------------------------------------

test("what is said is acknowledged with its place", async () => {
  const { me, socket } = await inLobby(chats(1, 3))
  const said = me.say("lobby", "hi")
  assert.equal(said.state, "waiting")
  assert.deepEqual(socket.take(), [{ type: "say", id: said.id, room: "lobby", text: "hi" }])
  socket.say({ type: "ack", id: said.id, seq: 4, time: 99 })
  assert.equal(await said.receipt, said)
  assert.deepEqual([said.state, said.seq, said.time], ["acknowledged", 4, 99])
  assert.deepEqual(me.waiting, [])
})

test("what is refused says why", async () => {
  const { me, socket } = await inLobby()
  const said = me.tell("zoe", "hi")
  socket.say({ type: "error", code: 8, id: said.id, text: "nobody here has that nickname" })
  await assert.rejects(said.receipt, { code: 8, label: "no-such-nick" })
  assert.equal(said.state, "refused")
  assert.equal(me.of("said").at(-1), said)
})

test("what was not acknowledged is said again on the next connection, after the join, under the same id", async () => {
  const { page, me } = await inLobby(chats(1, 3))
  const one = me.say("lobby", "one")
  const two = me.tell("bob", "two")
  const socket = await reconnect(page)
  await socket.letIn([], { last: 3 })
  const said = socket.take()
  assert.deepEqual(said, []) // it was sent before the answers to the join were there
  assert.deepEqual(me.waiting, [one, two])
  socket.say({ type: "ack", id: one.id, seq: 4, time: 1 }, { type: "ack", id: two.id, seq: 0, time: 1 })
  assert.deepEqual(me.waiting, [])
})

test("the messages that are said again follow the join of their room", async () => {
  const { page, me } = await inLobby()
  const said = me.say("lobby", "one")
  const socket = await reconnect(page)
  const asked = await socket.letIn([], { last: 0 })
  assert.deepEqual(asked.map(({ type, id }) => [type, id]), [["join", undefined], ["say", said.id]])
})

test("what is said without a connection waits for one", async () => {
  const { page, me, socket } = await inLobby()
  socket.break()
  const said = me.say("lobby", "later")
  assert.equal(said.state, "waiting")
  await page.attempt()
  page.socket.accept()
  const asked = await page.socket.letIn([])
  assert.deepEqual(typesOf(asked), ["join", "say"])
})

test("what one said and a replay brings back is shown once, when its acknowledgement says where", async () => {
  const { page, me } = await inLobby(chats(1, 3))
  const said = me.say("lobby", "mine")
  const socket = await reconnect(page)
  await socket.letIn([chat(4, "mine", { nick: "ann" }), chat(5, "theirs")])
  assert.deepEqual(seqsOf(me.of("entered").at(-1).chats), [5])
  socket.say({ type: "ack", id: said.id, seq: 4, time: 1 })
  assert.equal(said.seq, 4)
  assert.deepEqual(me.of("chat"), [])
  assert.deepEqual(me.of("missing"), [])
})

test("an older message with the same words is not taken for the one that waits", async () => {
  const { page, me } = await inLobby(chats(1, 3))
  const said = me.say("lobby", "mine")
  const socket = await reconnect(page)
  await socket.letIn([chat(4, "mine", { nick: "ann" })])
  socket.say({ type: "ack", id: said.id, seq: 5, time: 1 })
  assert.deepEqual(seqsOf(me.of("chat")), [4])
})

test("what waits outlives the page, with its ids, and is restored in order", async () => {
  const storage = new Storage()
  const { me } = await inLobby([], { storage })
  const ids = [me.say("lobby", "one").id, me.say("lobby", "two").id]
  const { me: again, socket } = await inLobby([], { storage })
  assert.deepEqual(again.waiting.map(({ id, text }) => [id, text]), [[ids[0], "one"], [ids[1], "two"]])
  socket.say({ type: "ack", id: ids[0], seq: 1, time: 1 }, { type: "ack", id: ids[1], seq: 2, time: 1 })
  assert.equal(storage.kept.size, 0)
})

test("what was sent under another nickname is not sent again: it could come twice", async () => {
  const storage = new Storage()
  await inLobby([], { storage }).then(({ me }) => me.say("lobby", "one"))
  const page = new Page()
  const me = page.chat({ storage, nick: "anna" })
  me.join("lobby")
  page.socket.accept()
  const asked = await page.socket.letIn([], { nick: "anna" })
  assert.deepEqual(typesOf(asked), ["join"])
  assert.match(me.of("said").at(-1).error.message, /nobody knows whether this arrived/)
})

test("storage that is full, forbidden or strange does no harm", async () => {
  const broken = { getItem: () => "[[", setItem() { throw new Error("full") }, removeItem() { throw new Error("no") } }
  const { me, socket } = await inLobby([], { storage: broken })
  const said = me.say("lobby", "hi")
  socket.say({ type: "ack", id: said.id, seq: 1, time: 1 })
  assert.equal(said.state, "acknowledged")
})

test("two pages never begin with the same id, and ids are whole numbers below 2^53", () => {
  const ids = Array.from({ length: 200 }, () => new Page().chat().say("lobby", "x").id)
  assert.equal(new Set(ids).size, 200)
  assert.ok(ids.every((id) => Number.isSafeInteger(id) && id > 0))
})

test("what cannot be said is refused at once", async () => {
  const { me } = await inLobby()
  assert.throws(() => me.say("lobby", ""), ChatError)
  assert.throws(() => me.say("lobby", "x".repeat(60_001)), ChatError)
  for (let i = 0; i < 200; i++) me.say("lobby", "x")
  assert.throws(() => me.say("lobby", "one more"), /not acknowledged/)
})

test("half a surrogate pair is said as U+FFFD", async () => {
  const { me, socket } = await inLobby()
  me.say("lobby", "a\ud800b")
  assert.equal(socket.take()[0].text, "a\ufffdb")
})

// --- coming back -------------------------------------------------------------------------------------------

test("a lost connection is made again, and what was missed comes without a gap", async () => {
  const { page, me } = await inLobby(chats(1, 3))
  const socket = await reconnect(page)
  const [join] = await socket.letIn(chats(4, 6))
  assert.deepEqual([join.epoch, join.after, join.limit], [EPOCH, 3, 500])
  const entered = me.of("entered").at(-1)
  assert.deepEqual([seqsOf(entered.chats), entered.resumed], [[4, 5, 6], true])
  assert.deepEqual(me.of("missing"), [])
})

test("one goes on from what was acknowledged, not only from what was heard", async () => {
  const { page, me, socket: first } = await inLobby(chats(1, 3))
  const said = me.say("lobby", "four")
  first.say({ type: "ack", id: said.id, seq: 4, time: 1 })
  const socket = await reconnect(page)
  const [join] = await socket.letIn([], { last: 4 })
  assert.equal(join.after, 4)
})

test("more than is replayed is told as missing", async () => {
  const { page, me } = await inLobby(chats(1, 3), { resumeLimit: 2 })
  const socket = await reconnect(page)
  await socket.letIn(chats(9, 10), { status: 1 })
  assert.deepEqual(me.of("missing"), [{ room: "lobby", first: 4, last: 8 }])
  socket.say(chat(11, "on"))
  assert.equal(me.of("missing").length, 1)
})

test("a server that began anew is told once, and its numbers are new ones", async () => {
  const { page, me } = await inLobby(chats(1, 9))
  const socket = await reconnect(page)
  await socket.letIn(chats(1, 2), { epoch: EPOCH + 1, status: 2 })
  assert.deepEqual(me.of("missing"), [{ room: "lobby", first: 0, last: 0 }])
  const entered = me.of("entered").at(-1)
  assert.deepEqual([seqsOf(entered.chats), entered.resumed], [[1, 2], false])
  socket.say(chat(3, "on"))
  assert.deepEqual(seqsOf(me.of("chat")), [3])
})

test("a room that was empty and is so no more has no gap", async () => {
  const { page, me } = await inLobby()
  const socket = await reconnect(page)
  const [join] = await socket.letIn(chats(1, 4))
  assert.deepEqual([join.epoch, join.after], [EPOCH, 0])
  assert.deepEqual(me.of("missing"), [])
  assert.deepEqual(seqsOf(me.of("entered").at(-1).chats), [1, 2, 3, 4])
})

test("the pauses grow, differ, and have a bound", async () => {
  const { page, me } = await inLobby()
  for (let attempt = 0; attempt < 12; attempt++) {
    page.socket.break()
    await page.attempt()
  }
  const delays = me.of("state").filter(({ state }) => state === "waiting").map(({ delay_ms }) => delay_ms)
  const expected = (attempt) => Math.min(30_000, 500 * 2 ** attempt)
  delays.forEach((delay, attempt) => {
    assert.ok(delay >= expected(attempt) * 0.5 && delay <= expected(attempt) * 1.5, `${attempt}: ${delay}`)
  })
  assert.ok(new Set(delays).size > 6)
})

test("the first pause is short again after a session was open", async () => {
  const { page, me } = await inLobby()
  for (let attempt = 0; attempt < 6; attempt++) {
    page.socket.break()
    await page.attempt()
  }
  page.socket.accept()
  await page.socket.letIn([])
  page.socket.break()
  assert.ok(me.of("state").at(-1).delay_ms <= 750)
})

test("after a goodbye one comes back when the server said, and not before", async () => {
  const { page, me, socket } = await inLobby()
  socket.say({ type: "goodbye", retry_ms: 20_000, text: "the server is shutting down" })
  socket.break()
  const { delay_ms, reason } = me.of("state").at(-1)
  assert.ok(delay_ms >= 20_000)
  assert.equal(reason, "the server is shutting down")
  page.dispatchEvent(new Event("online"))
  await page.pass(19_000)
  assert.equal(page.sockets.length, 1)
  await page.pass(2_000)
  assert.equal(page.sockets.length, 2)
})

for (const [event, target] of [["online", "page"], ["visibilitychange", "document"], ["pageshow", "page"]]) {
  test(`${event} ends the pause`, async () => {
    const { page } = await inLobby()
    for (let attempt = 0; attempt < 5; attempt++) {
      page.socket.break()
      await page.pass(60_000)
    }
    page.socket.break()
    const before = page.sockets.length
    ;(target === "page" ? page : page.document).dispatchEvent(new Event(event))
    await page.pass(10)
    assert.equal(page.sockets.length, before + 1)
  })
}

test("a server that does not answer the opening is given up", async () => {
  const page = new Page()
  page.chat().join("lobby")
  await page.pass(20_000)
  assert.ok(page.sockets[0].isClosed)
  assert.ok(page.sockets.length > 1)
})

test("a connection that is dead is found by a ping that nobody answers", async () => {
  const { page, me, socket } = await inLobby()
  await page.pass(26_000)
  assert.equal(me.state, "open")
  assert.equal(socket.sent.filter(({ type }) => type === "ping").length, 1)
  await page.pass(11_000)
  assert.ok(socket.isClosed)
  assert.equal(me.of("state").filter(({ state }) => state === "waiting").length, 1)
})

test("a connection on which something comes is not asked", async () => {
  const { page, socket } = await inLobby()
  for (let i = 1; i < 20; i++) {
    await page.pass(10_000)
    socket.say(chat(i, "on"))
  }
  assert.ok(!socket.isClosed)
  assert.equal(socket.sent.length, 0)
})

test("a connection that outlived the sleep of the machine is kept", async () => {
  const { page, me, socket } = await inLobby()
  page.sleep(8 * 3_600_000)
  await page.pass(1_000)
  assert.equal(me.state, "open")
  for (let i = 0; i < 20; i++) {
    socket.take()
    await page.pass(5_000)
  }
  assert.ok(!socket.isClosed)
})

test("a connection that did not outlive it is found within seconds after waking", async () => {
  const { page, me, socket } = await inLobby()
  page.sleep(8 * 3_600_000)
  page.document.dispatchEvent(new Event("visibilitychange"))
  await page.pass(8_000)
  assert.ok(socket.isClosed)
  assert.ok(page.sockets.length > 1)
  assert.equal(me.state, "connecting")
})

test("what an old socket still tells is not heard", async () => {
  const { page, me, socket } = await inLobby()
  await page.pass(60_000)
  const count = me.events.length
  socket.say(chat(1, "late"))
  socket.onclose({ reason: "" })
  assert.equal(me.events.length, count)
})

test("a nickname that the lost connection still holds is asked for again", async () => {
  const { page, me } = await inLobby(chats(1, 3))
  let socket = await reconnect(page)
  for (let attempt = 0; attempt < 3; attempt++) {
    socket.say({ type: "error", code: 4, id: 0, text: "ann is taken" })
    socket.take()
    await settled()
    assert.equal(me.state, "waiting")
    socket = await page.attempt()
    socket.accept()
    await settled()
  }
  const [join] = await socket.letIn(chats(4, 4))
  assert.equal(join.after, 3)
  assert.equal(me.state, "open")
  assert.deepEqual(me.of("refused"), [])
})

test("a nickname that somebody else has taken meanwhile is given up after a minute", async () => {
  const { page, me } = await inLobby()
  let socket = await reconnect(page)
  const began_ms = page.now_ms
  for (;;) {
    socket.say({ type: "error", code: 4, id: 0, text: "ann is taken" })
    socket.take()
    await settled()
    if (me.state === "stopped") break
    socket = await page.attempt()
    socket.accept()
    await settled()
  }
  assert.ok(page.now_ms - began_ms >= 50_000)
  assert.equal(me.state, "stopped")
  assert.equal(me.of("refused")[0].code, 4)
})

test("who is suspended goes on where it was", async () => {
  const { page, me, socket } = await inLobby(chats(1, 3))
  me.suspend()
  assert.ok(socket.isClosed)
  assert.deepEqual(socket.take(), [])
  me.start()
  page.socket.accept()
  const [join] = await page.socket.letIn(chats(4, 5))
  assert.equal(join.after, 3)
})

test("who stops says so, and stays away", async () => {
  const { page, me, socket } = await inLobby()
  me.stop()
  assert.deepEqual(socket.take(), [{ type: "leave", room: "" }])
  page.dispatchEvent(new Event("online"))
  await page.pass(120_000)
  assert.equal(page.sockets.length, 1)
})

// --- asking ------------------------------------------------------------------------------------------------

test("history is what came before, while others go on talking", async () => {
  const { me, socket } = await inLobby(chats(11, 13))
  const asked = me.history("lobby", 11, 3)
  assert.deepEqual(socket.take(false), [{ type: "history", room: "lobby", before: 11, limit: 3 }])
  socket.say(chat(8, "old"), chat(14, "live"), chat(9, "old"), chat(10, "old"))
  socket.say({ type: "end", room: "lobby", first: 8, last: 10, status: 1 }, { type: "pong", token: 2 })
  const { chats: found, older } = await asked
  assert.deepEqual([seqsOf(found), older], [[8, 9, 10], true])
  assert.deepEqual(seqsOf(me.of("chat")), [14])
})

test("the newest history ends at what has come", async () => {
  const { me, socket } = await inLobby(chats(1, 3))
  me.history("lobby")
  assert.equal(socket.take(false)[0].before, 4)
})

test("a search finds what was heard, while others go on talking", async () => {
  const { me, socket } = await inLobby(chats(1, 5))
  const asked = me.search("lobby", "bob")
  socket.say(chat(2, "bob 2"), chat(6, "live"), chat(4, "bob 4"))
  socket.say({ type: "end", room: "lobby", first: 2, last: 4, status: 0 }, { type: "pong", token: 2 })
  assert.deepEqual(seqsOf((await asked).chats), [2, 4])
  assert.deepEqual(seqsOf(me.of("chat")), [6])
})

test("what is refused is refused to who asked", async () => {
  const { me, socket } = await inLobby()
  const [first, second] = [me.rename("bob"), me.who("ops")]
  socket.say({ type: "error", code: 4, id: 0, text: "taken" }, { type: "pong", token: 2 })
  socket.say({ type: "error", code: 7, id: 0, text: "not there" }, { type: "pong", token: 3 })
  await assert.rejects(first, { code: 4 })
  await assert.rejects(second, { code: 7 })
})

test("who renames is that one from then on, also on the next connection", async () => {
  const { page, me, socket } = await inLobby()
  const renamed = me.rename("anna")
  socket.say({ type: "renamed", old: "ann", new: "anna" })
  socket.take()
  assert.equal(await renamed, "anna")
  const next = await reconnect(page)
  assert.equal(next.take(false)[0].nick, "anna")
})

test("a room is not joined under a nickname that is just changing", async () => {
  const { me, socket } = await inLobby()
  me.rename("anna")
  me.join("ops")
  assert.deepEqual(typesOf(socket.take(false)), ["nick"])
  socket.say({ type: "renamed", old: "ann", new: "anna" }, { type: "pong", token: 2 })
  await settled()
  assert.deepEqual(socket.take().map(({ type, nick }) => [type, nick]), [["join", "anna"]])
})

test("who asks without a connection, or loses it, is told so", async () => {
  const { me, socket } = await inLobby()
  const asked = me.who("lobby")
  socket.break()
  await assert.rejects(asked, ChatError)
  await assert.rejects(me.who("lobby"), /no connection/)
})

test("who was put out of a room does not go back by itself", async () => {
  const { page, me, socket } = await inLobby()
  me.join("ops")
  await socket.letIn([], { room: "ops", isFirst: false })
  socket.say({ type: "left", room: "ops", nick: "ann", reason: "kicked" })
  assert.deepEqual(me.rooms, ["lobby"])
  const next = await reconnect(page)
  assert.deepEqual(next.take().map(({ room }) => room), ["lobby"])
})

test("a room that was left is not gone back to", async () => {
  const { page, me, socket } = await inLobby()
  me.join("ops")
  await socket.letIn([], { room: "ops", isFirst: false })
  const left = me.leave("ops")
  assert.deepEqual(socket.take(), [{ type: "leave", room: "ops" }])
  await left
  const next = await reconnect(page)
  assert.deepEqual(next.take().map(({ room }) => room), ["lobby"])
})
