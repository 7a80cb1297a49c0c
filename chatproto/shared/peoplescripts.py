"""What the store does about people in one step each: Lua, and the keys that it has to do with.

chat:{ROOM}:people         a hash: the nickname of everybody in a room, by TOKEN.SESSION; each change has a
                           number, which is `people` in chat:{ROOM}:about
chat:{people}:servers      a sorted set: the tokens of servers, by the millisecond of their last sign of life
chat:{people}:nicks        a hash: TOKEN.SESSION by what nobody else may have: the comparison form of a
                           nickname (k...), and what it looks like (l...)
chat:{people}:of:TOKEN     a set: which of these are a server's
chat:{people}:rooms:TOKEN  a set: the rooms in which a server has people
chat:{people}:told:KEY:ID  when a private message was delivered; it expires by itself
chat:{people}:rules        a hash: bans and mutes
"""

from __future__ import annotations

from chatproto.shared.scripts import Script, script, tag

__all__ = [
    "BEAT",
    "BURY",
    "CLAIM",
    "ENTER",
    "FIND",
    "FREE",
    "LEAVE",
    "NICKS",
    "ORDER",
    "REAP",
    "RELEASE",
    "RENAME",
    "RULES",
    "SCRIPTS",
    "SERVERS",
    "of_key",
    "people_key",
    "rooms_key",
    "told_key",
]

_TIME = """
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
"""

_CHANGED = """
local function changed(what)
    local number = redis.call('HINCRBY', KEYS[1], 'people', 1)
    redis.call('PUBLISH', ARGV[1], 'p' .. string.format('%.0f', number) .. ' ' .. what)
end
"""

ENTER = script(
    _CHANGED
    + """
-- KEYS: about, people; ARGV: channel, place, nickname
if redis.call('HGET', KEYS[2], ARGV[2]) == ARGV[3] then
    return 0
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
changed('j ' .. ARGV[2] .. ' ' .. ARGV[3])
return 1
"""
)

LEAVE = script(
    _CHANGED
    + """
-- KEYS: about, people; ARGV: channel, place, reason
if redis.call('HDEL', KEYS[2], ARGV[2]) == 0 then
    return 0
end
changed('l ' .. ARGV[2] .. ' ' .. ARGV[3])
return 1
"""
)

RENAME = script(
    _CHANGED
    + """
-- KEYS: about, people; ARGV: channel, place, nickname
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 0 then
    return 0
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
changed('n ' .. ARGV[2] .. ' ' .. ARGV[3])
return 1
"""
)

REAP = script(
    _CHANGED
    + """
-- KEYS: about, people; ARGV: channel, token
local gone = 0
for _, place in ipairs(redis.call('HKEYS', KEYS[2])) do
    if string.sub(place, 1, #ARGV[2] + 1) == ARGV[2] .. '.' then
        redis.call('HDEL', KEYS[2], place)
        changed('l ' .. place .. ' closed')
        gone = gone + 1
    end
end
return gone
"""
)
"""The people of a server that is gone leave a room; once, whoever sees to it."""

BEAT = script(
    _TIME
    + """
-- KEYS: servers; ARGV: token, milliseconds of a lease
local beat_ms = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now_ms, ARGV[1])
local is_new = (not beat_ms or now_ms - beat_ms > tonumber(ARGV[2])) and 1 or 0
return {is_new, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now_ms - ARGV[2]))}
"""
)
"""A server is there: whether it was not before, or gone as far as others know, and which others are gone."""

BURY = script(
    _TIME
    + """
-- KEYS: servers, nicks, of, rooms; ARGV: token, milliseconds of a lease (0: it goes by itself)
local beat_ms = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not beat_ms or (ARGV[2] ~= '0' and now_ms - beat_ms <= tonumber(ARGV[2])) then
    return 0
end
for _, field in ipairs(redis.call('SMEMBERS', KEYS[3])) do
    local owner = redis.call('HGET', KEYS[2], field)
    if owner and string.sub(owner, 1, #ARGV[1] + 1) == ARGV[1] .. '.' then
        redis.call('HDEL', KEYS[2], field)
    end
end
redis.call('DEL', KEYS[3], KEYS[4])
redis.call('ZREM', KEYS[1], ARGV[1])
return 1
"""
)
"""Nothing is left of a server, and its nicknames are free."""

CLAIM = script(
    """
-- KEYS: servers, nicks, of; ARGV: place, then the nickname's fields
for i = 2, #ARGV do
    local owner = redis.call('HGET', KEYS[2], ARGV[i])
    -- A server whose lease is over still has its people in their rooms, until it is buried.
    if owner and owner ~= ARGV[1] and redis.call('ZSCORE', KEYS[1], string.match(owner, '^[^.]+')) then
        return 0
    end
end
for i = 2, #ARGV do
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[1])
    redis.call('SADD', KEYS[3], ARGV[i])
end
return 1
"""
)

RELEASE = script(
    """
-- KEYS: nicks, of; ARGV: place, then the nickname's fields
for i = 2, #ARGV do
    if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[1] then
        redis.call('HDEL', KEYS[1], ARGV[i])
        redis.call('SREM', KEYS[2], ARGV[i])
    end
end
return 1
"""
)

FREE = script(
    """
-- KEYS: nicks, of; ARGV: token, then fields of nicknames
for i = 2, #ARGV do
    local owner = redis.call('HGET', KEYS[1], ARGV[i])
    if owner and string.sub(owner, 1, #ARGV[1] + 1) == ARGV[1] .. '.' then
        redis.call('HDEL', KEYS[1], ARGV[i])
    end
    redis.call('SREM', KEYS[2], ARGV[i])
end
return 1
"""
)
"""What nobody on a server has any more is free, whoever on it had it."""

FIND = script(
    _TIME
    + """
-- KEYS: servers, nicks, told; ARGV: the nickname's field, milliseconds of a lease
local known = redis.call('GET', KEYS[3])
if known then
    return {known, ''}
end
local owner = redis.call('HGET', KEYS[2], ARGV[1])
if owner then
    local beat_ms = redis.call('ZSCORE', KEYS[1], string.match(owner, '^[^.]+'))
    if beat_ms and now_ms - beat_ms <= tonumber(ARGV[2]) then
        return {'', owner}
    end
end
return {'', ''}
"""
)
"""When a private message was delivered before, or else who has a nickname."""

ORDER = script(
    """
-- KEYS: rules; ARGV: channel, what is published, the rule's place ('': none), the rule ('': lifted)
if ARGV[3] ~= '' then
    if ARGV[4] == '' then
        redis.call('HDEL', KEYS[1], ARGV[3])
    else
        redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
    end
end
redis.call('PUBLISH', ARGV[1], ARGV[2])
return 1
"""
)

SCRIPTS: tuple[Script, ...] = (ENTER, LEAVE, RENAME, REAP, BEAT, BURY, CLAIM, RELEASE, FREE, FIND, ORDER)

SERVERS = b"chat:{people}:servers"
NICKS = b"chat:{people}:nicks"
RULES = b"chat:{people}:rules"


def people_key(room: str) -> bytes:
    """The hash with who is in a room."""
    return f"chat:{tag(room)}:people".encode()


def of_key(token: str) -> bytes:
    """The set of what of the nicknames is a server's."""
    return f"chat:{{people}}:of:{token}".encode()


def rooms_key(token: str) -> bytes:
    """The set of the rooms in which a server has people."""
    return f"chat:{{people}}:rooms:{token}".encode()


def told_key(key: str, id: int) -> bytes:
    """When the private message *id* of the nickname *key* was delivered."""
    return f"chat:{{people}}:told:{key}:{id}".encode()
