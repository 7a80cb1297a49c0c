/** Finding what was said in a room. */

import { sentence } from "./entry.js"
import { ACTION, counted, element, hueOf, nodesOf, timeOf } from "./text.js"

const dialog = document.getElementById("search")
const form = document.getElementById("search-form")
const field = document.getElementById("search-query")
const count = document.getElementById("search-count")
const found = document.getElementById("search-found")

let asked = { find: null, goTo: null }

/** Open the search of `room`, and search at once if there is a `query`. */
export function showSearch(room, query, { find, goTo }) {
  asked = { find, goTo }
  document.getElementById("search-title").textContent = `Search ${room}`
  field.value = query
  count.textContent = ""
  found.replaceChildren()
  dialog.showModal()
  field.focus()
  if (query) run()
}

form.addEventListener("submit", (event) => {
  event.preventDefault()
  if (field.value.trim()) run()
})

async function run() {
  const { find, goTo } = asked
  count.textContent = "Searching…"
  found.replaceChildren()
  try {
    const { chats, older } = await find(field.value)
    const more = older ? ", and older ones" : ""
    count.textContent = chats.length ? `${counted(chats.length, "message")}${more}` : "Nothing was found."
    found.replaceChildren(...chats.reverse().map((message) => row(message, goTo)))
  } catch (error) {
    count.textContent = sentence(error.message)
  }
}

function row(message, goTo) {
  const item = element("li", "found-item")
  const head = element("p", "head")
  head.append(element("bdi", `nick ${hueOf(message.nick)}`, message.nick), " ", timeOf(message.time, true))
  const text = element("p", "text")
  text.dir = "auto"
  const isAction = message.text.startsWith(ACTION)
  text.classList.toggle("did", isAction)
  text.append(...nodesOf(isAction ? message.text.slice(ACTION.length) : message.text))
  const show = element("button", "text-button", "Show")
  show.type = "button"
  show.ariaLabel = `Show what ${message.nick} said among the messages around it`
  show.addEventListener("click", () => {
    dialog.close()
    goTo(message.seq)
  })
  head.append(" ", show)
  item.append(head, text)
  return item
}
