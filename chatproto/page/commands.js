/** What a person types: something to say, or a command; the same as in a terminal. */

import { ACTION } from "./text.js"

const MODERATION = { kick: 1, ban: 2, unban: 3, mute: 4, unmute: 5 }

/** The commands and what they are for, as they are shown. */
export const COMMANDS = [
  ["/join ROOM", "enter a room"],
  ["/leave [ROOM]", "leave it"],
  ["/nick NAME", "take another name"],
  ["/who", "see who is in the room"],
  ["/msg NAME TEXT", "say it to one person alone"],
  ["/me ACTION", "say what you do"],
  ["/search WORDS", "find what was said"],
  ["/history", "read what was said before"],
  ["/quit", "leave the chat"],
  ["/kick, /ban, /mute NAME [SECONDS] [REASON]", "for operators; /unban and /unmute take it back"],
  ["//…", "say something that begins with a slash"],
]

/**
 * What `text` asks for: `{say}` or `{fault}`, or `{command, rest}`, with `{command: "msg", nick, text}` and
 * `{command: "moderate", action, nick, seconds, reason}` taken apart.
 */
export function parse(text) {
  if (text.startsWith("//")) return { say: text.slice(1) }
  const found = /^\/(\w*)[ \t]*([\s\S]*)$/.exec(text)
  if (!found) return text.startsWith("/") ? { fault: unknown(text.split(/\s/)[0].slice(1)) } : { say: text }
  const command = found[1].toLowerCase()
  const rest = found[2].trim()
  const wants = { join: "a room: /join ROOM", nick: "a name: /nick NAME", me: "what you do: /me ACTION" }
  if (wants[command] && !rest) return { fault: `/${command} needs ${wants[command]}` }
  if (command === "me") return { say: ACTION + rest }
  if (command === "msg") {
    const [, nick, told] = /^@?(\S+)\s+([\s\S]+)$/.exec(rest) ?? []
    return nick ? { command, nick, text: told } : { fault: "/msg needs a name and what to say: /msg NAME TEXT" }
  }
  if (Object.hasOwn(MODERATION, command)) {
    const [, nick, seconds, reason] = /^@?(\S+)(?:\s+(\d+))?\s*([\s\S]*)$/.exec(rest) ?? []
    if (!nick) return { fault: `/${command} needs a name: /${command} NAME` }
    return { command: "moderate", action: MODERATION[command], nick, seconds: Number(seconds ?? 0), reason }
  }
  if (["join", "leave", "nick", "who", "search", "history", "help", "quit"].includes(command)) return { command, rest }
  return { fault: unknown(command) }
}

function unknown(command) {
  return `There is no command /${command}; /help shows those that there are. To say it as it is, begin with //.`
}
