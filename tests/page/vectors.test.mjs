// chat.js and the frames that every encoder and decoder of the project agrees on: tests/data/vectors.json.

import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { test } from "node:test"

import { decode, encode, fromJson, MESSAGES, toJson } from "./module.mjs"

const VECTORS = JSON.parse(readFileSync(new URL("../data/vectors.json", import.meta.url)))
const VALID = VECTORS.valid.map(({ hex, message }) => ({ message, bytes: Buffer.from(hex, "hex").subarray(4) }))

const bytesOf = (hex) => new Uint8Array(Buffer.from(hex, "hex"))

test("every message of the table has a vector", () => {
  assert.deepEqual(new Set(VALID.map(({ message }) => message.type)), new Set(Object.keys(MESSAGES)))
})

VALID.forEach(({ message, bytes }, index) => {
  const name = `${index} ${message.type}`
  test(`${name}: the message becomes the bytes`, () => assert.deepEqual(Buffer.from(encode(message)), bytes))
  test(`${name}: the bytes become the message`, () => assert.deepEqual(decode(new Uint8Array(bytes)), message))
  test(`${name}: the message becomes the JSON`, () => assert.deepEqual(JSON.parse(toJson(message)), message))
  test(`${name}: the JSON becomes the message`, () => assert.deepEqual(fromJson(JSON.stringify(message)), message))
  test(`${name}: bytes that a later server adds are passed over`, () => {
    assert.deepEqual(decode(new Uint8Array([...bytes, 1, 2, 3])), message)
  })
  test(`${name}: a message that is cut off is none`, () => {
    for (let length = 1; length < Math.min(bytes.length, 300); length++) {
      assert.throws(() => decode(new Uint8Array(bytes.subarray(0, length))), RangeError)
    }
  })
})

const FROM_SERVER = [
  ["ill-formed UTF-8", "8c 0002 c328", TypeError],
  ["half a surrogate pair in UTF-8", "8c 0003 eda080", TypeError],
  ["a text that overruns the frame", "8c 0005 6869", RangeError],
  ["a u64 of 2^53", "89 0020000000000000", RangeError],
]
for (const [name, hex, kind] of FROM_SERVER) {
  test(`${name} is refused`, () => assert.throws(() => decode(bytesOf(hex.replaceAll(" ", ""))), kind))
}

test("the byte order mark is a part of the text", () => {
  assert.equal(decode(bytesOf("8c0006efbbbf616263")).text, "\ufeffabc")
})

test("a kind that nobody knows yet is passed over", () => {
  assert.equal(decode(bytesOf("ff0102")), null)
  assert.equal(fromJson('{"type": "sung", "text": "la"}'), null)
})

for (const name of ["constructor", "__proto__", "toString"]) {
  test(`${name} is no message`, () => {
    assert.equal(fromJson(JSON.stringify({ type: name })), null)
    assert.throws(() => encode({ type: name }), TypeError)
  })
}

for (const text of ["", "[]", "null", "3", '{"text": "hi"}', '{"type": "pong", "token": "1"}', '{"type": "pong", "token": 1.5}']) {
  test(`${text || "nothing"} is refused as JSON`, () => assert.throws(() => fromJson(text)))
}

const MISUSES = [
  { type: "ping", token: -1 },
  { type: "ping", token: 2 ** 53 },
  { type: "ping", token: 0.5 },
  { type: "ping", token: "1" },
  { type: "ping", token: null },
  { type: "history", limit: 65_536 },
  { type: "who", room: 3 },
  { type: "who", room: "\ud800" },
  { type: "who", room: "x".repeat(65_536) },
  { type: "roster", nicks: "ann" },
  { type: "roster", nicks: [3] },
  { type: "sing" },
]
for (const message of MISUSES) {
  test(`${JSON.stringify(message).slice(0, 50)} cannot be encoded`, () => {
    assert.throws(() => encode(message))
    assert.throws(() => toJson(message))
  })
}

test("fields that are left out are 0 or empty", () => {
  assert.deepEqual(decode(encode({ type: "join", nick: "ann" })), {
    type: "join",
    nick: "ann",
    room: "",
    epoch: 0,
    after: 0,
    limit: 0,
  })
})
