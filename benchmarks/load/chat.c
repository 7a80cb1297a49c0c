/* The chat protocol, version 1, as frames (and the same in WebSocket messages) and as lines: joining, saying, and judging
 * what comes. */
#define _GNU_SOURCE
#include "load.h"

#include <inttypes.h>
#include <stdio.h>

enum { JOIN = 0x01, SAY = 0x02 };
enum { WELCOME = 0x81, CHAT_SAID = 0x84, ROSTER = 0x86, END = 0x87, ACK = 0x8A, ERROR = 0x8B, LAGGED = 0x8D, GOODBYE = 0x8E };

#define MAX_FRAME_BYTES 65536
#define MAX_LINE_BYTES 65536
#define BODY_MOST_BYTES 128             /* of a `join`, or of a `say` without its text */

/* Reads the fields of one frame; `overrun` once a field did not fit. */
struct fields {
    const uint8_t *at, *end;
    bool overrun;
};

static uint64_t take_number(struct fields *fields, unsigned bytes)
{
    if (fields->overrun || (size_t)(fields->end - fields->at) < bytes) {
        fields->overrun = true;
        return 0;
    }
    uint64_t value = number_at(fields->at, bytes);
    fields->at += bytes;
    return value;
}

static struct view take_str(struct fields *fields)
{
    uint32_t bytes = (uint32_t)take_number(fields, 2);
    if (fields->overrun || (size_t)(fields->end - fields->at) < bytes) {
        fields->overrun = true;
        return (struct view){fields->at, 0};
    }
    struct view view = {fields->at, bytes};
    fields->at += bytes;
    return view;
}

static bool is_text(struct view view, const char *text, uint32_t bytes)
{
    return view.bytes == bytes && memcmp(view.at, text, bytes) == 0;
}

static uint8_t *put_str(uint8_t *at, const char *text, uint32_t bytes)
{
    at = put_number(at, 2, bytes);
    memcpy(at, text, bytes);
    return at + bytes;
}

void name_room(struct room *room, uint32_t number)
{
    room->name_bytes = (uint32_t)(number == 0 ? snprintf(room->name, sizeof room->name, "lobby")
                                              : snprintf(room->name, sizeof room->name, "room%u", number));
}

/* Writes the nickname with its terminating zero; returns its bytes without. */
static uint32_t name(const struct connection *connection, char nick[NICK_ROOM_BYTES])
{
    return (uint32_t)snprintf(nick, NICK_ROOM_BYTES, "c%u", connection->index);
}

/* -- what is said ------------------------------------------------------------------------------------------------------ */

/* Writes what goes before the body of a message: a length, or the header of a WebSocket message. Returns its bytes. */
static uint32_t put_head(const struct connection *connection, uint8_t *at, uint32_t body_bytes)
{
    if (connection->form == WEBSOCKET)
        return put_websocket_header(at, body_bytes);
    put_number(at, 4, body_bytes);
    return 4;
}

const struct template *say_template(const struct connection *connection)
{
    uint8_t body[BODY_MOST_BYTES];
    struct template *template = allocate(sizeof *template);
    const struct room *room = connection->room;
    uint8_t *end = put_number(body, 1, SAY);
    end = put_number(end, 8, 0);
    end = put_str(end, room->name, room->name_bytes);
    end = put_number(end, 2, opt.text_bytes);
    uint32_t before_text = (uint32_t)(end - body);
    template->bytes = allocate(WEBSOCKET_HEADER_MOST + before_text + opt.text_bytes);
    template->payload_at = put_head(connection, template->bytes, before_text + opt.text_bytes);
    template->id_at = template->payload_at + 1;
    template->stamp_at = template->payload_at + before_text;
    template->size = template->stamp_at + opt.text_bytes;
    template->has_id = true;
    memcpy(template->bytes + template->payload_at, body, before_text);
    put_text(template->bytes + template->stamp_at, opt.text_bytes);
    if (connection->form == WEBSOCKET) {
        uint8_t *payload = template->bytes + template->payload_at;
        template->masked = true;
        mask(payload, 0, 1);
        mask(payload, 9, before_text - 9);
        mask(payload, before_text + STAMP_BYTES, opt.text_bytes - STAMP_BYTES);
    }
    return template;
}

static void join_by_lines(struct connection *connection, const char *nick)
{
    char lines[BODY_MOST_BYTES];
    const char *room = connection->room->name;
    int bytes = strcmp(room, "lobby") == 0 ? snprintf(lines, sizeof lines, "%s\n", nick)
                                           : snprintf(lines, sizeof lines, "%s\n/join %s\n/leave lobby\n", nick, room);
    memcpy(room_to_send(connection, (uint32_t)bytes), lines, (size_t)bytes);
    connection->unsent_bytes += (uint32_t)bytes;
}

void join(struct connection *connection)
{
    char nick[NICK_ROOM_BYTES];
    uint32_t nick_bytes = name(connection, nick);
    uint8_t body[BODY_MOST_BYTES];
    if (connection->sender != NULL) {
        memcpy(connection->sender->nick, nick, sizeof nick);
        connection->sender->nick_bytes = nick_bytes;
    }
    if (connection->form == LINES) {
        join_by_lines(connection, nick);
        return;
    }
    uint8_t *end = put_number(body, 1, JOIN);
    end = put_str(end, nick, nick_bytes);
    end = put_str(end, connection->room->name, connection->room->name_bytes);
    end = put_number(end, 8, 0);        /* epoch */
    end = put_number(end, 8, 0);        /* after */
    end = put_number(end, 2, 0);        /* limit */
    uint32_t body_bytes = (uint32_t)(end - body);
    uint8_t *to = room_to_send(connection, WEBSOCKET_HEADER_MOST + body_bytes);
    uint32_t head_bytes = put_head(connection, to, body_bytes);
    memcpy(to + head_bytes, body, body_bytes);
    if (connection->form == WEBSOCKET)
        mask(to + head_bytes, 0, body_bytes);
    connection->unsent_bytes += head_bytes + body_bytes;
}

/* -- what comes -------------------------------------------------------------------------------------------------------- */

static void on_chat(struct connection *connection, struct fields *fields, uint64_t now)
{
    struct view room = take_str(fields);
    uint64_t seq = take_number(fields, 8);
    take_number(fields, 8);
    struct view nick = take_str(fields), text = take_str(fields);
    if (fields->overrun)
        return;
    deliveries++;
    uint64_t stamp_ns = stamp_of(text, now);
    if (!is_text(room, connection->room->name, connection->room->name_bytes) || nick.bytes < 2 || stamp_ns == 0) {
        violation("c%u got number %" PRIu64 " with another room or text than was said", connection->index, seq);
        stamp_ns = 0;
    }
    if (connection->sender == NULL ? seq != connection->last + 1 : seq <= connection->last)
        violation("c%u got number %" PRIu64 " after number %" PRIu64, connection->index, seq, connection->last);
    if (connection->sender != NULL && is_text(nick, connection->sender->nick, connection->sender->nick_bytes))
        violation("c%u got its own message, number %" PRIu64, connection->index, seq);
    connection->last = seq;
    connection->accounted++;
    if (stamp_ns != 0) {
        same_everywhere(connection->room, seq, stamp_ns);
        record_latency(now - stamp_ns);
    }
}

static void on_ack(struct connection *connection, struct fields *fields)
{
    uint64_t id = take_number(fields, 8), seq = take_number(fields, 8);
    take_number(fields, 8);
    struct sender *sender = connection->sender;
    if (fields->overrun)
        return;
    if (sender == NULL || sender->in_flight_count == 0 || sender->in_flight[sender->oldest].id != id) {
        violation("c%u got an ack that was not due", connection->index);
        return;
    }
    if (seq <= sender->last_ack_seq)
        violation("c%u got an ack with number %" PRIu64 " after %" PRIu64, connection->index, seq, sender->last_ack_seq);
    sender->last_ack_seq = seq;
    same_everywhere(connection->room, seq, answered(sender).stamp_ns);
    connection->accounted++;
}

static void on_roster(struct connection *connection, struct fields *fields)
{
    take_str(fields);
    connection->first = connection->last = take_number(fields, 8);
    if (connection->sender != NULL)
        connection->sender->last_ack_seq = connection->first;
    if (connection->first > connection->room->newest)
        connection->room->newest = connection->first;
}

void on_chat_frame(struct connection *connection, const uint8_t *frame, uint32_t bytes, uint64_t now)
{
    struct fields fields = {frame + 1, frame + bytes, false};
    switch (frame[0]) {
    case CHAT_SAID:
        on_chat(connection, &fields, now);
        break;
    case ACK:
        on_ack(connection, &fields);
        break;
    case WELCOME:
        take_number(&fields, 8);
        take_str(&fields);
        take_number(&fields, 8);
        take_str(&fields);
        connection->welcomed = true;
        break;
    case ROSTER:
        on_roster(connection, &fields);
        break;
    case END:
        if (!connection->welcomed || connection->entered)
            stop(BROKEN_RULE, "c%u got an end that was not due.", connection->index);
        entered(connection);
        break;
    case LAGGED:
        lagged++;
        break;
    case ERROR: {
        uint64_t code = take_number(&fields, 2);
        take_number(&fields, 8);
        struct view text = take_str(&fields);
        stop(NOT_MEASURED, "The server refused something c%u sent, error %" PRIu64 ": %.*s.", connection->index, code,
             (int)text.bytes, (const char *)text.at);
    }
    case GOODBYE:
        stop(NOT_MEASURED, "The server said goodbye to c%u.", connection->index);
    default:                            /* announcements, and kinds of tomorrow */
        break;
    }
    if (fields.overrun)
        stop(BROKEN_RULE, "c%u got a frame of kind 0x%02x whose fields overrun it.", connection->index, frame[0]);
}

uint32_t take_frame(struct connection *connection, const uint8_t *at, size_t bytes, uint64_t now)
{
    if (bytes < 4)
        return 0;
    uint32_t frame_bytes = (uint32_t)number_at(at, 4);
    if (frame_bytes < 1 || frame_bytes > MAX_FRAME_BYTES)
        stop(BROKEN_RULE, "c%u got a frame of %u bytes, which is outside 1..%u.", connection->index, frame_bytes,
             MAX_FRAME_BYTES);
    if (bytes < 4 + (size_t)frame_bytes) {
        connection->wanted_bytes = 4 + frame_bytes;
        return 0;
    }
    on_chat_frame(connection, at + 4, frame_bytes, now);
    return 4 + frame_bytes;
}

/* `[lobby 14:05] c1: TEXT`, without its end. Lines have no numbers: they are counted. */
static void on_said_line(struct connection *connection, struct view line, uint64_t now)
{
    const struct room *room = connection->room;
    struct view text = {line.at + line.bytes - opt.text_bytes, opt.text_bytes};
    uint64_t stamp_ns = line.bytes > opt.text_bytes + room->name_bytes ? stamp_of(text, now) : 0;
    if (phase == ENTERING)              /* what others said before */
        return;
    deliveries++;
    connection->accounted++;
    connection->last++;
    if (stamp_ns == 0 || memcmp(line.at + 1, room->name, room->name_bytes) != 0) {
        violation("c%u got the line %.*s", connection->index, (int)line.bytes, (const char *)line.at);
        return;
    }
    same_everywhere(connection->room, connection->last, stamp_ns);
    record_latency(now - stamp_ns);
}

uint32_t take_line(struct connection *connection, const uint8_t *at, size_t bytes, uint64_t now)
{
    const uint8_t *end = memchr(at, '\n', bytes);
    static const char in_lobby[] = "* in lobby: ", left_lobby[] = "* you left lobby";
    if (end == NULL) {
        if (bytes > MAX_LINE_BYTES)
            stop(BROKEN_RULE, "c%u got a line of more than %d bytes.", connection->index, MAX_LINE_BYTES);
        return 0;
    }
    struct view line = {at, (uint32_t)(end - at)};
    uint32_t taken = line.bytes + 1;
    if (line.bytes > 0 && end[-1] == '\r')
        line.bytes--;
    if (at[0] == '[') {
        on_said_line(connection, line, now);
    } else if (!connection->entered) {
        const char *last = strcmp(connection->room->name, "lobby") == 0 ? in_lobby : left_lobby;
        if (line.bytes >= strlen(last) && memcmp(at, last, strlen(last)) == 0)
            entered(connection);
    }
    return taken;
}
