/** That there is no connection, and when the next attempt is made. */

import { announce } from "./announcer.js"
import { noteAtEntry, sentence } from "./entry.js"

const banner = document.getElementById("banner")
const text = document.getElementById("banner-text")
const spinner = banner.querySelector(".spinner")
const now = document.getElementById("banner-now")
const other = document.getElementById("banner-other")

let countdown = null

/** Show the `state` event of a chat. `wasOpen`: a session was open; `isExpected`: one is there or comes back. */
export function drawBanner({ state, reason, delay_ms }, wasOpen, isExpected) {
  clearInterval(countdown)
  delete spinner.dataset.seconds
  const wasShown = !banner.hidden
  const isConnecting = state === "connecting"
  banner.hidden = state === "open" || state === "stopped" || (isConnecting && !wasShown && !isExpected)
  now.hidden = other.hidden = state !== "waiting"
  if (wasOpen) other.hidden = true
  if (state === "open" && wasShown && wasOpen) announce("Connected again.")
  if (isConnecting) text.textContent = "Connecting…"
  if (state !== "waiting") return
  text.textContent = `Not connected: ${sentence(reason)} Trying again.`
  noteAtEntry(text.textContent)
  if (!wasShown && wasOpen) announce(text.textContent)
  const until = Date.now() + delay_ms
  const tick = () => (spinner.dataset.seconds = String(Math.max(0, Math.ceil((until - Date.now()) / 1_000))))
  tick()
  countdown = setInterval(tick, 500)
}
