/** Where one writes: it grows with what is in it, sends on Enter, and completes names. */

const MOST_ROWS = 8

export class Composer {
  /** `submit(text)` says whether the text is done with. */
  constructor(form, submit) {
    this.#field = form.querySelector("textarea")
    this.#label = form.querySelector("label")
    this.onInput = () => {}
    this.namesThatBegin = () => []
    form.addEventListener("submit", (event) => {
      event.preventDefault()
      this.#submit(submit)
    })
    this.#field.addEventListener("input", () => this.#changed())
    this.#field.addEventListener("keydown", (event) => {
      // While an input method composes, Enter and Tab are its own.
      if (event.isComposing || event.keyCode === 229) return
      if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault()
        this.#submit(submit)
      } else if (event.key === "Tab" && !event.shiftKey && this.#complete()) {
        event.preventDefault()
      }
    })
  }

  #field
  #label

  get text() {
    return this.#field.value
  }

  set text(text) {
    this.#field.value = text
    this.#changed()
  }

  set label(text) {
    this.#label.textContent = text
    this.#field.placeholder = text
  }

  get hasFocus() {
    return document.activeElement === this.#field
  }

  focus() {
    this.#field.focus({ preventScroll: true })
  }

  #submit(submit) {
    const { text } = this
    if (!text.trim()) return
    this.text = ""
    if (!submit(text)) this.text = text
    this.focus()
  }

  #changed() {
    const field = this.#field
    field.rows = 1
    while (field.rows < MOST_ROWS && field.scrollHeight > field.clientHeight) field.rows += 1
    this.onInput(field.value)
  }

  /** The name that begins with what stands behind an @; whether there is one. */
  #complete() {
    const field = this.#field
    const end = field.selectionEnd
    const begun = /(?:^|\s)@(\S+)$/.exec(field.value.slice(0, end))?.[1]
    const [name] = begun ? this.namesThatBegin(begun) : []
    if (!name) return false
    field.setRangeText(`${name} `, end - begun.length, end, "end")
    this.#changed()
    return true
  }
}
