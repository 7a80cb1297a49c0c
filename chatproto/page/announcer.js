/** What a screen reader is told: what is new, and not more of it than can be listened to. */

import { counted } from "./text.js"

const STAYS_MS = 6_000
const BURST_MS = 1_000
const MOST_IN_BURST = 3

const region = document.getElementById("announcer")
let burst = 0
let more = 0

/** Say a line. */
export function announce(text) {
  const line = document.createElement("p")
  line.textContent = text
  region.append(line)
  setTimeout(() => line.remove(), STAYS_MS)
}

/** Say who said what; of many at once only how many there were. */
export function announceMessage(nick, text) {
  if (!burst) setTimeout(endOfBurst, BURST_MS)
  burst += 1
  if (burst <= MOST_IN_BURST) announce(`${nick}: ${text}`)
  else more += 1
}

function endOfBurst() {
  if (more) announce(`and ${counted(more, "more message")}`)
  burst = more = 0
}
