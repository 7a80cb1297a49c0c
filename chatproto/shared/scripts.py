"""What the store does in one step each: Lua, and the keys that it has to do with.

Everything of one room has the same hash tag, so that it lies in one slot of a cluster:

    chat:{ROOM}             a stream: one entry for each message, under SEQ-MS, with the field m
    chat:{ROOM}:about       a hash: last (the newest number), ms (its time), first (the oldest that is kept),
                            torn (the epoch in which messages were lost)
    chat:{ROOM}:id:KEY:ID   the SEQ-MS that an id of a nickname got; it expires by itself
    chat:about              a hash: epoch, and run (of the store, when the epoch was last looked at)

`m` is ORIGIN LF NICK LF TEXT; ORIGIN says which server said it for whom (`Origin`).
"""

from __future__ import annotations

from hashlib import sha1
from typing import NamedTuple

from chatproto.limits import HistoryLimits

__all__ = [
    "ABOUT",
    "ANEW",
    "APPEND",
    "BEGIN",
    "BEGUN",
    "LOOK",
    "REMOVE",
    "SCRIPTS",
    "TRIM",
    "Script",
    "about_key",
    "channel_of",
    "everyone_channel",
    "id_key",
    "keeping",
    "script",
    "server_channel",
    "stream_key",
    "tag",
]


class Script(NamedTuple):
    """A script, and the name under which a store that has it once runs it."""

    text: str
    sha: bytes


def script(text: str) -> Script:
    """A script of that text."""
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest().encode())


_TIME = """
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# What is too old or too much goes: `first` becomes the oldest number that is kept. Integers are written out
# by hand, as Lua would write large ones as powers of ten.
_TRIM = """
local function written(number)
    return string.format('%.0f', number)
end

local function trim(about, stream, first, last, most, age_ms, now_ms)
    local keep = first
    if most > 0 and last - most + 1 > keep then
        keep = last - most + 1
    end
    while age_ms > 0 and keep <= last do
        local oldest = redis.call('XRANGE', stream, written(keep), '+', 'COUNT', 100)
        local young = nil
        for _, entry in ipairs(oldest) do
            local seq, ms = string.match(entry[1], '(%d+)-(%d+)')
            if tonumber(ms) > now_ms - age_ms then
                young = tonumber(seq)
                break
            end
            keep = tonumber(seq) + 1
        end
        if young or #oldest == 0 then
            keep = young or last + 1
            break
        end
    end
    if keep > first then
        redis.call('XTRIM', stream, 'MINID', written(keep))
        redis.call('HSET', about, 'first', written(keep))
    end
    return keep
end
"""

APPEND = script(
    _TIME
    + _TRIM
    + """
-- KEYS: about, stream, and the id's if there is one
-- ARGV: m, milliseconds to remember the id, messages and milliseconds to keep (0: all), channel
if KEYS[3] then
    local known = redis.call('GET', KEYS[3])
    if known then
        return {1, known}
    end
end
local about = redis.call('HMGET', KEYS[1], 'last', 'ms', 'first')
local seq = (tonumber(about[1]) or 0) + 1
-- A clock that is set back must not turn the history round.
local ms = math.max(now_ms, tonumber(about[2]) or 0)
local first = tonumber(about[3]) or 1
local place = written(seq) .. '-' .. written(ms)
redis.call('XADD', KEYS[2], place, 'm', ARGV[1])
redis.call('HSET', KEYS[1], 'last', written(seq), 'ms', written(ms), 'first', written(first))
if KEYS[3] then
    redis.call('SET', KEYS[3], place, 'PX', ARGV[2])
end
local age_ms = tonumber(ARGV[4])
if age_ms > 0 then
    -- A room in which nobody speaks any more is emptied without anybody's doing.
    redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
first = trim(KEYS[1], KEYS[2], first, seq, tonumber(ARGV[3]), age_ms, now_ms)
redis.call('PUBLISH', ARGV[5], 'm' .. place .. ' ' .. written(first) .. '\\n' .. ARGV[1])
return {0, place, written(first)}
"""
)
"""Give a message its number and keep it, unless its id is known."""

LOOK = script(
    _TIME
    + _TRIM
    + """
-- KEYS: about, stream, people
-- ARGV: from which number on (0: the newest), how many, messages and milliseconds to keep, and whether it is
-- to be said who is there; the epoch
local about = redis.call('HMGET', KEYS[1], 'last', 'first')
local last = tonumber(about[1]) or 0
local first = tonumber(about[2]) or 1
if last > 0 then
    first = trim(KEYS[1], KEYS[2], first, last, tonumber(ARGV[3]), tonumber(ARGV[4]), now_ms)
end
-- What is gone but was not let go of is lost. That is said for as long as the epoch is the same.
local top = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
local begins = top and tonumber(string.match(top[1], '^%d+')) or last + 1
if last > 0 and begins > first then
    first = begins
    redis.call('HSET', KEYS[1], 'first', written(first), 'torn', ARGV[6])
end
local is_torn = redis.call('HGET', KEYS[1], 'torn') == ARGV[6] and 1 or 0
local entries
if ARGV[1] == '0' then
    entries = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', ARGV[2])
else
    entries = redis.call('XRANGE', KEYS[2], ARGV[1], '+', 'COUNT', ARGV[2])
end
local people = {}
if ARGV[5] == '1' then
    people = redis.call('HGETALL', KEYS[3])
end
return {first, last, entries, tonumber(redis.call('HGET', KEYS[1], 'people')) or 0, people, is_torn}
"""
)
"""What is to be known of a room before people enter it, or after the connection was lost."""

TRIM = script(
    _TIME
    + _TRIM
    + """
-- KEYS: about, stream; ARGV: messages and milliseconds to keep
local about = redis.call('HMGET', KEYS[1], 'last', 'first')
if not about[1] then
    return 1
end
local first, last = tonumber(about[2]), tonumber(about[1])
return trim(KEYS[1], KEYS[2], first, last, tonumber(ARGV[1]), tonumber(ARGV[2]), now_ms)
"""
)
"""Drop what is too old; the oldest number that is kept."""

REMOVE = script(
    """
-- KEYS: stream, a place to work in; ARGV: number, text instead, channel
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if #found == 0 then
    return 0
end
-- A stream cannot change an entry, and only marks one that it deletes. So it is written anew.
redis.call('DEL', KEYS[2])
local left_ms = redis.call('PTTL', KEYS[1])
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do
    local m = entry[2][2]
    if entry[1] == found[1][1] then
        m = string.match(m, '^[^\\n]*\\n[^\\n]*\\n') .. ARGV[2]
    end
    redis.call('XADD', KEYS[2], entry[1], 'm', m)
end
redis.call('RENAME', KEYS[2], KEYS[1])
if left_ms > 0 then
    redis.call('PEXPIRE', KEYS[1], left_ms)
end
redis.call('PUBLISH', ARGV[3], 'r' .. ARGV[1])
return 1
"""
)
"""Have another text in place of what a message said."""

BEGIN = script(
    """
-- KEYS: about
-- ARGV: an epoch for a store that has none, the store's run, whether a run before may have lost something,
-- this server's channel. Who may not publish must not write either: what is said would be kept, and refused.
redis.call('PUBLISH', ARGV[4], 'b')
redis.call('HSETNX', KEYS[1], 'epoch', ARGV[1])
local run = redis.call('HGET', KEYS[1], 'run')
if run and run ~= ARGV[2] and ARGV[3] == '1' then
    redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
end
redis.call('HSET', KEYS[1], 'run', ARGV[2])
return redis.call('HGET', KEYS[1], 'epoch')
"""
)
"""The epoch."""

BEGUN = b"b"
"""The kind of what `BEGIN` publishes; there is nothing to be done about it."""

ANEW = script(
    """
-- KEYS: about; ARGV: the epoch that is over, the one that begins, channel
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch == ARGV[1] or not epoch then
    epoch = ARGV[2]
    redis.call('HSET', KEYS[1], 'epoch', epoch)
end
redis.call('PUBLISH', ARGV[3], 'e' .. epoch)
return epoch
"""
)
"""Begin another epoch, unless somebody was faster; the epoch."""

SCRIPTS = (APPEND, LOOK, TRIM, REMOVE, BEGIN, ANEW)

ABOUT = b"chat:about"


def tag(room: str) -> str:
    """The hash tag of a room."""
    # A brace in a room's name would end the hash tag.
    return "{" + room.replace("%", "%25").replace("{", "%7B").replace("}", "%7D") + "}"


def stream_key(room: str) -> bytes:
    """The stream of a room."""
    return f"chat:{tag(room)}".encode()


def about_key(room: str) -> bytes:
    """The hash with what is known of a room."""
    return f"chat:{tag(room)}:about".encode()


def id_key(room: str, key: str, id: int) -> bytes:
    """Where it stands which place the message *id* of the nickname *key* got."""
    return f"chat:{tag(room)}:id:{key}:{id}".encode()


def channel_of(database: int, room: str) -> bytes:
    """Where what happens in a room is published. Channels know nothing of databases."""
    return f"chat@{database}:{tag(room)}".encode()


def server_channel(database: int, token: str) -> bytes:
    """Where one server listens."""
    return f"chat@{database}:server:{token}".encode()


def everyone_channel(database: int) -> bytes:
    """Where all servers listen."""
    return f"chat@{database}:".encode()


def keeping(history: HistoryLimits) -> tuple[bytes, bytes]:
    """How many messages of a room are kept (0: all), and for how many milliseconds (0: for ever)."""
    return b"%d" % history.max_history_room_messages, b"%d" % int(history.max_history_age_s * 1000)
