/** The form at the door: which name to have, and what the server has to say about it. */

const form = document.getElementById("entry-form")
const view = document.getElementById("entry")
const nickField = document.getElementById("entry-nick")
const account = document.getElementById("entry-account")
const user = document.getElementById("entry-user")
const secret = document.getElementById("entry-secret")
const fault = document.getElementById("entry-fault")
const go = document.getElementById("entry-go")
const other = document.getElementById("entry-other")

const TAKEN = 4
const ACCOUNT_CODES = [10, 11]

/** Call `enter(nick, credentials)` when somebody wants to come in. */
export function onEntry(enter) {
  const submit = () => {
    const nick = nickField.value.trim()
    if (!nick) return showFault("Which name shall the others see?", nickField)
    const hasAccount = !account.hidden && user.value
    enter(nick, hasAccount ? { user: user.value, secret: secret.value } : null)
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault()
    submit()
  })
  other.addEventListener("click", () => {
    nickField.value = other.dataset.nick
    submit()
  })
  nickField.addEventListener("input", clearFault)
}

/** Show the form, with what the server refused. */
export function showEntry(nick, title, refusal = null) {
  view.hidden = false
  document.getElementById("entry-title").textContent = title
  waitForEntry(false)
  clearFault()
  nickField.value = nick
  if (!refusal) {
    nickField.focus()
    return
  }
  if (ACCOUNT_CODES.includes(refusal.code)) {
    account.hidden = false
    showFault(sentence(refusal.text), user)
    return
  }
  showFault(sentence(refusal.text), nickField)
  if (refusal.code === TAKEN) {
    other.dataset.nick = nextName(nick)
    other.textContent = `Enter as ${other.dataset.nick}`
    other.hidden = false
  }
}

/** The server is being asked. */
export function waitForEntry(waits) {
  go.disabled = waits
  go.textContent = waits ? "Entering…" : "Enter"
}

/** Say why it takes so long. */
export function noteAtEntry(text) {
  if (!view.hidden) fault.textContent = text
}

/** Put the form away. */
export function hideEntry() {
  view.hidden = true
  secret.value = ""
}

/** Another name like it: ann, ann2, ann3. */
export function nextName(nick) {
  const [, stem, number] = /^(.*?)(\d{0,6})$/su.exec(nick)
  const next = String(Number(number || 1) + 1)
  return [...stem].slice(0, 32 - next.length).join("") + next
}

/** What the server says, with a full stop; it may begin with a name, so its first letter stays as it is. */
export function sentence(text) {
  return /[.!?…]$/u.test(text) ? text : `${text}.`
}

function showFault(text, field) {
  fault.textContent = text
  field.ariaInvalid = "true"
  field.focus()
  field.select()
}

function clearFault() {
  fault.textContent = ""
  nickField.ariaInvalid = user.ariaInvalid = null
  other.hidden = true
}
