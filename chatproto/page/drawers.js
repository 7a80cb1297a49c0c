/** What opens over the conversation: the sides where the window is narrow, and the dialogs. */

const veil = document.getElementById("veil")
const middle = document.getElementById("room")

let opened = null // {side, button} of the side that is open

/** Let `button` open `side` over the rest of the page. */
export function makeDrawer(side, button) {
  button.addEventListener("click", () => (opened?.side === side ? closeDrawer() : openDrawer(side, button)))
  for (const closing of side.querySelectorAll("[data-close]")) closing.addEventListener("click", closeDrawer)
}

function openDrawer(side, button) {
  closeDrawer()
  opened = { side, button }
  side.dataset.open = ""
  button.ariaExpanded = "true"
  veil.hidden = false
  middle.inert = true
  const first = side.querySelector("[aria-current]") ?? side.querySelector("button")
  first.focus()
}

/** Close the side that is open; whether one was. */
export function closeDrawer() {
  if (!opened) return false
  const { side, button } = opened
  opened = null
  delete side.dataset.open
  button.ariaExpanded = "false"
  veil.hidden = true
  middle.inert = false
  button.focus()
  return true
}

veil.addEventListener("click", closeDrawer)
addEventListener("resize", () => {
  if (opened && getComputedStyle(opened.side).position !== "fixed") closeDrawer()
})

for (const dialog of document.querySelectorAll("dialog")) {
  for (const button of dialog.querySelectorAll("[data-dismiss]")) button.addEventListener("click", () => dialog.close())
  // A click beside the dialog, which is one on the dialog itself.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close())
}
