/** Loading what a room's log does not have: older and newer messages, gaps, and other stretches altogether. */

const MORE = 60
const FILL = 200

async function load(chat, { isRoom, log }, ask) {
  if (!isRoom || !chat?.session) return
  log.busy = true
  try {
    await ask()
  } catch {
    // The connection was lost; it is asked for again when it is back and one scrolls.
  }
  log.busy = false
}

/** What was said before what is shown. */
export function loadOlder(chat, conversation) {
  const { log, name } = conversation
  return load(chat, conversation, async () => {
    const { first } = log
    const { chats, older } = await chat.history(name, first ?? 0, MORE)
    if (log.first !== first) return // something else is shown by now
    log.older = older && chats.length > 0
    log.addChats(chats)
  })
}

/** What was said after what is shown. */
export function loadNewer(chat, conversation) {
  const { log, name } = conversation
  return load(chat, conversation, async () => {
    const { last } = log
    const { chats } = await chat.history(name, last + MORE + 1, MORE)
    if (log.last !== last) return
    const found = chats.filter((message) => message.seq > last)
    // Meanwhile more may have been said, which was not shown.
    log.newer = found.length > 0 && found.at(-1).seq < chat.lastOf(name)
    log.addChats(found)
  })
}

/** The newest messages, where others are shown. */
export async function loadNewest(chat, conversation) {
  const { log, name } = conversation
  if (log.newer && chat?.session) {
    log.clear()
    log.newer = false // what is said from now on is shown as it comes
    log.older = true
    await load(chat, conversation, async () => {
      const { chats, older } = await chat.history(name, 0, MORE)
      log.older = older
      log.addChats(chats)
    })
  }
  log.toEnd()
}

/** One message among those around it. */
export async function loadAround(chat, conversation, seq) {
  const { log, name } = conversation
  if (!log.has(seq)) {
    await load(chat, conversation, async () => {
      const { chats, older } = await chat.history(name, seq + MORE / 2, MORE)
      log.clear()
      log.older = older
      log.newer = (chats.at(-1)?.seq ?? 0) < chat.lastOf(name)
      log.atEnd = false
      log.addChats(chats)
    })
  }
  log.point(seq)
}

/** As much of a gap as can be had. */
export async function fillGap(chat, { log, name }, gap) {
  try {
    const limit = Math.min(FILL, gap.last - gap.seq + 1)
    const { chats, older } = await chat.history(name, gap.last + 1, limit)
    const found = chats.filter((message) => message.seq >= gap.seq)
    log.fillGap(gap, found, older && found.length > 0)
  } catch {
    log.fillGap(gap, [], true)
  }
}
