/* Load for a chat server that speaks length-prefixed frames, and the judge of what it delivers.
 *
 * Opens --clients connections to HOST:PORT, has each join the room `lobby`, then lets the first --senders of them talk:
 * each keeps --window `say` of --bytes bytes of text in flight and says the next when an `ack` comes back. After
 * --warmup seconds everything that arrives is counted for --seconds seconds; then the senders fall silent and what is still
 * under way has to arrive. One JSON object on standard output reports the measured window.
 *
 * A text begins with the moment it was said, in nanoseconds of CLOCK_MONOTONIC as 16 hexadecimal digits. No two texts carry
 * the same moment, so it also names the message. What is checked on every connection:
 *
 *   - frames: length within 1..65,536, every field inside its frame, the text of a `chat` byte for byte as it was said;
 *   - someone who only listens gets every sequence number, each one more than the last;
 *   - a sender gets ascending numbers in `chat`, never its own words; an `ack` for each `say`, in the order they were
 *     said, with ascending numbers; at the end both together are every number of the room;
 *   - a number stands for the same message wherever it arrives (the newest 65,536 are compared).
 *
 * Exit status: 0 all was well; 1 the server broke a rule; 2 it could not be measured (refused, closed, too slow, wrong use).
 * Every failure is one sentence on standard error. Linux only (epoll, the CPU clock of another process).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BROKEN_RULE = 1, NOT_MEASURED = 2 };
enum { JOIN = 0x01, SAY = 0x02 };
enum { WELCOME = 0x81, CHAT = 0x84, ROSTER = 0x86, END = 0x87, ACK = 0x8A, ERROR = 0x8B, LAGGED = 0x8D, GOODBYE = 0x8E };

#define ROOM "lobby"
#define ROOM_BYTES 5
#define MAX_FRAME_BYTES 65536
#define STAMP_BYTES 16
#define RECEIVE_BYTES (256 * 1024)      /* at least one whole frame and its length */
#define SAY_TEXT_AT (4 + 1 + 8 + 2 + ROOM_BYTES + 2)
#define JOIN_MAX_BYTES 64
#define NICK_ROOM_BYTES 16
#define REMEMBERED_SEQS 65536           /* a power of two */
#define EVENTS 1024
#define SILENCE_S 5.0                   /* after so long without a byte nothing is under way any more */
#define SUB_BUCKETS 32                  /* of each power of two: latencies are good to 3 % */
#define BUCKETS (64 * SUB_BUCKETS)
#define NS_PER_S 1000000000ull

struct said {
    uint64_t id, stamp_ns;
};

/* What only those who talk need. `in_flight` is a ring of --window entries, oldest first. */
struct sender {
    char nick[NICK_ROOM_BYTES];
    uint32_t nick_bytes;
    struct said *in_flight;
    uint32_t oldest, in_flight_count;
    uint64_t last_ack_seq;
};

struct connection {
    int fd;
    uint32_t index;
    bool connected, welcomed, in_room, polls_writable;
    uint64_t first_seq;                 /* the room's newest number when this one entered */
    uint64_t last_seq;                  /* of the last `chat` */
    uint64_t accounted;                 /* numbers seen since first_seq, in `chat` or in `ack` */
    uint8_t *partial;                   /* the beginning of a frame whose rest has not come */
    uint32_t partial_bytes, partial_room_bytes;
    uint8_t *unsent;
    uint32_t unsent_bytes;
    struct sender *sender;              /* NULL for those who only listen */
};

/* Reads the fields of one frame; `overrun` once a field did not fit. */
struct fields {
    const uint8_t *at, *end;
    bool overrun;
};

struct view {
    const uint8_t *at;
    uint32_t bytes;
};

enum phase { ENTERING, WARMING_UP, MEASURING, DRAINING, DONE };

/* The clocks and counters at one end of the measured window. */
struct mark {
    uint64_t wall_ns, load_cpu_ns, server_cpu_ns, deliveries, says;
};

static struct {
    const char *host, *port;
    uint32_t clients, senders, window, text_bytes, connect_batch;
    double warmup_s, measured_s, limit_s;
    pid_t server_pid;                   /* 0: none was given */
} opt = {.clients = 200, .senders = 4, .window = 4, .text_bytes = 64, .connect_batch = 50,
         .warmup_s = 1, .measured_s = 5, .limit_s = 120};

static struct connection *connections;
static struct addrinfo *address;
static int poller;
static clockid_t server_clock;
static enum phase phase = ENTERING;
static uint64_t phase_began_ns, heard_ns;
static uint32_t opened, entered;
static uint64_t deliveries, says, lagged, violations, newest_seq, last_stamp_ns, next_id;
static char first_violation[256];
static uint64_t histogram[BUCKETS], longest_ns;
static uint8_t *say_template;
static uint32_t say_bytes;
static struct {
    uint64_t seq, stamp_ns;
} remembered[REMEMBERED_SEQS];

_Noreturn static void stop(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void violation(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void stop(int status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(status);
}

/* A broken rule after which the stream can still be read: the run goes on, so that the count tells how bad it is. */
static void violation(const char *format, ...)
{
    if (violations++ > 0)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(first_violation, sizeof first_violation, format, arguments);
    va_end(arguments);
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now) != 0)
        stop(NOT_MEASURED, "A clock cannot be read (has the server ended?): %s.", strerror(errno));
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void *allocate(size_t bytes)
{
    void *memory = calloc(1, bytes);
    if (memory == NULL)
        stop(NOT_MEASURED, "Out of memory.");
    return memory;
}

/* -- bytes ------------------------------------------------------------------------------------------------------------- */

static uint64_t number_at(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value = value << 8 | at[i];
    return value;
}

static uint8_t *put_number(uint8_t *at, unsigned bytes, uint64_t value)
{
    for (unsigned i = bytes; i-- > 0; value >>= 8)
        at[i] = (uint8_t)value;
    return at + bytes;
}

static uint8_t *put_str(uint8_t *at, const char *text, uint32_t bytes)
{
    at = put_number(at, 2, bytes);
    memcpy(at, text, bytes);
    return at + bytes;
}

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
    struct view view = {fields->at, (uint32_t)take_number(fields, 2)};
    if (fields->overrun || (size_t)(fields->end - fields->at) < view.bytes) {
        fields->overrun = true;
        return (struct view){fields->at, 0};
    }
    view.at = fields->at;
    fields->at += view.bytes;
    return view;
}

static bool is_text(struct view view, const char *text, uint32_t bytes)
{
    return view.bytes == bytes && memcmp(view.at, text, bytes) == 0;
}

static void put_stamp(uint8_t *at, uint64_t stamp_ns)
{
    for (unsigned i = STAMP_BYTES; i-- > 0; stamp_ns >>= 4)
        at[i] = (uint8_t)"0123456789abcdef"[stamp_ns & 15];
}

/* 0, which no text carries, when it is not a stamp. */
static uint64_t stamp_at(const uint8_t *at)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < STAMP_BYTES; i++) {
        unsigned digit = at[i] - (unsigned)'0', letter = at[i] - (unsigned)'a';
        if (digit > 9 && letter > 5)
            return 0;
        value = value << 4 | (digit <= 9 ? digit : letter + 10);
    }
    return value;
}

/* -- latencies --------------------------------------------------------------------------------------------------------- */

static void record_latency(uint64_t latency_ns)
{
    unsigned shift = 0;
    if (latency_ns >= 2 * SUB_BUCKETS)
        shift = 58 - (unsigned)__builtin_clzll(latency_ns);     /* leaves the six highest bits: 32..63 */
    histogram[shift * SUB_BUCKETS + (latency_ns >> shift)]++;
    if (latency_ns > longest_ns)
        longest_ns = latency_ns;
}

/* The middle of the bucket below which `share` of all recorded latencies lie. */
static double quantile_ms(double share, uint64_t recorded)
{
    uint64_t wanted = (uint64_t)(share * (double)recorded), seen = 0;
    for (uint32_t bucket = 0; bucket < BUCKETS; bucket++) {
        seen += histogram[bucket];
        if (seen > wanted) {
            unsigned shift = bucket < 2 * SUB_BUCKETS ? 0 : bucket / SUB_BUCKETS - 1;
            uint64_t lowest_ns = (uint64_t)(bucket - shift * SUB_BUCKETS) << shift;
            return ((double)lowest_ns + (double)(1ull << shift) / 2) / 1e6;
        }
    }
    return (double)longest_ns / 1e6;
}

/* -- sending ----------------------------------------------------------------------------------------------------------- */

static void watch(struct connection *connection, int operation, bool writable)
{
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0u), .data.ptr = connection};
    if (epoll_ctl(poller, operation, connection->fd, &event) != 0)
        stop(NOT_MEASURED, "epoll refuses a connection: %s.", strerror(errno));
    connection->polls_writable = writable;
}

static void flush(struct connection *connection)
{
    uint32_t sent = 0;
    while (sent < connection->unsent_bytes) {
        ssize_t taken = send(connection->fd, connection->unsent + sent, connection->unsent_bytes - sent, MSG_NOSIGNAL);
        if (taken < 0 && errno == EAGAIN)
            break;
        if (taken < 0 && errno != EINTR)
            stop(NOT_MEASURED, "The server closed the connection of c%u: %s.", connection->index, strerror(errno));
        if (taken > 0)
            sent += (uint32_t)taken;
    }
    connection->unsent_bytes -= sent;
    memmove(connection->unsent, connection->unsent + sent, connection->unsent_bytes);
    if (connection->polls_writable != (connection->unsent_bytes > 0))
        watch(connection, EPOLL_CTL_MOD, connection->unsent_bytes > 0);
}

static void make_say_template(void)
{
    say_bytes = SAY_TEXT_AT + opt.text_bytes;
    say_template = allocate(say_bytes);
    uint8_t *at = put_number(say_template, 4, say_bytes - 4);
    at = put_number(at, 1, SAY);
    at = put_number(at, 8, 0);
    at = put_str(at, ROOM, ROOM_BYTES);
    at = put_number(at, 2, opt.text_bytes);
    for (uint32_t i = 0; i < opt.text_bytes; i++)
        at[i] = (uint8_t)"the quick brown fox jumps over the lazy dog "[i % 44];
}

/* Says as much as the window allows, with one write. */
static void talk(struct connection *connection)
{
    struct sender *sender = connection->sender;
    if (sender == NULL || (phase != WARMING_UP && phase != MEASURING) || sender->in_flight_count == opt.window)
        return;
    while (sender->in_flight_count < opt.window) {
        uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
        last_stamp_ns = now_ns > last_stamp_ns ? now_ns : last_stamp_ns + 1;
        struct said *said = &sender->in_flight[(sender->oldest + sender->in_flight_count++) % opt.window];
        *said = (struct said){next_id++, last_stamp_ns};
        uint8_t *frame = connection->unsent + connection->unsent_bytes;
        memcpy(frame, say_template, say_bytes);
        put_number(frame + 5, 8, said->id);
        put_stamp(frame + SAY_TEXT_AT, said->stamp_ns);
        connection->unsent_bytes += say_bytes;
    }
    flush(connection);
}

/* Writes the nickname with its terminating zero; returns its bytes without. */
static uint32_t name(const struct connection *connection, char nick[NICK_ROOM_BYTES])
{
    return (uint32_t)snprintf(nick, NICK_ROOM_BYTES, "c%u", connection->index);
}

static void join(struct connection *connection)
{
    char nick[NICK_ROOM_BYTES];
    uint32_t nick_bytes = name(connection, nick);
    uint8_t *at = put_number(connection->unsent + 4, 1, JOIN);
    at = put_str(at, nick, nick_bytes);
    at = put_str(at, ROOM, ROOM_BYTES);
    at = put_number(at, 8, 0);          /* epoch */
    at = put_number(at, 8, 0);          /* after */
    at = put_number(at, 2, 0);          /* limit */
    connection->unsent_bytes = (uint32_t)(at - connection->unsent);
    put_number(connection->unsent, 4, connection->unsent_bytes - 4);
    flush(connection);
}

/* -- receiving --------------------------------------------------------------------------------------------------------- */

static void same_everywhere(uint64_t seq, uint64_t stamp_ns)
{
    uint64_t slot = seq & (REMEMBERED_SEQS - 1);
    if (remembered[slot].seq == seq && remembered[slot].stamp_ns != stamp_ns)
        violation("Number %" PRIu64 " is not the same message everywhere", seq);
    if (remembered[slot].seq < seq) {
        remembered[slot].seq = seq;
        remembered[slot].stamp_ns = stamp_ns;
    }
    if (seq > newest_seq)
        newest_seq = seq;
}

static void on_chat(struct connection *connection, struct fields *fields, uint64_t now_ns)
{
    struct view room = take_str(fields);
    uint64_t seq = take_number(fields, 8);
    take_number(fields, 8);
    struct view nick = take_str(fields), text = take_str(fields);
    if (fields->overrun)
        return;
    deliveries++;
    uint64_t stamp_ns = text.bytes == opt.text_bytes ? stamp_at(text.at) : 0;
    if (!is_text(room, ROOM, ROOM_BYTES) || nick.bytes < 2 || stamp_ns == 0 || stamp_ns > now_ns
        || memcmp(text.at + STAMP_BYTES, say_template + SAY_TEXT_AT + STAMP_BYTES, text.bytes - STAMP_BYTES) != 0) {
        violation("c%u got number %" PRIu64 " with another room or text than was said", connection->index, seq);
        stamp_ns = 0;
    }
    if (connection->sender == NULL ? seq != connection->last_seq + 1 : seq <= connection->last_seq)
        violation("c%u got number %" PRIu64 " after number %" PRIu64, connection->index, seq, connection->last_seq);
    if (connection->sender != NULL && is_text(nick, connection->sender->nick, connection->sender->nick_bytes))
        violation("c%u got its own message, number %" PRIu64, connection->index, seq);
    connection->last_seq = seq;
    connection->accounted++;
    if (stamp_ns != 0)
        same_everywhere(seq, stamp_ns);
    if (stamp_ns != 0 && phase == MEASURING)
        record_latency(now_ns - stamp_ns);
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
    same_everywhere(seq, sender->in_flight[sender->oldest].stamp_ns);
    sender->last_ack_seq = seq;
    sender->oldest = (sender->oldest + 1) % opt.window;
    sender->in_flight_count--;
    connection->accounted++;
    says++;
}

static void on_frame(struct connection *connection, const uint8_t *frame, uint32_t bytes, uint64_t now_ns)
{
    struct fields fields = {frame + 1, frame + bytes, false};
    switch (frame[0]) {
    case CHAT:
        on_chat(connection, &fields, now_ns);
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
        take_str(&fields);
        connection->first_seq = connection->last_seq = take_number(&fields, 8);
        if (connection->sender != NULL)
            connection->sender->last_ack_seq = connection->first_seq;
        if (connection->first_seq > newest_seq)
            newest_seq = connection->first_seq;
        break;
    case END:
        if (!connection->welcomed || connection->in_room)
            stop(BROKEN_RULE, "c%u got an end that was not due.", connection->index);
        connection->in_room = true;
        entered++;
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

static void keep_partial(struct connection *connection, const uint8_t *at, uint32_t bytes)
{
    if (bytes > connection->partial_room_bytes) {
        free(connection->partial);
        connection->partial = allocate(bytes * 2);
        connection->partial_room_bytes = bytes * 2;
    }
    if (bytes > 0)
        memcpy(connection->partial, at, bytes);
    connection->partial_bytes = bytes;
}

static void receive(struct connection *connection)
{
    /* One buffer for all: it stays in the cache, and a connection in rest holds nothing. */
    static uint8_t buffer[RECEIVE_BYTES];
    uint32_t held = connection->partial_bytes;
    ssize_t got = recv(connection->fd, buffer + held, sizeof buffer - held, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0)
        stop(NOT_MEASURED, "The server closed the connection of c%u%s%s.", connection->index, got < 0 ? ": " : "",
             got < 0 ? strerror(errno) : "");
    uint64_t now_ns = heard_ns = clock_ns(CLOCK_MONOTONIC);
    if (held > 0)
        memcpy(buffer, connection->partial, held);
    const uint8_t *at = buffer, *end = buffer + held + got;
    while (end - at >= 4) {
        uint32_t bytes = (uint32_t)number_at(at, 4);
        if (bytes < 1 || bytes > MAX_FRAME_BYTES)
            stop(BROKEN_RULE, "c%u got a frame of %u bytes, which is outside 1..%u.", connection->index, bytes,
                 MAX_FRAME_BYTES);
        if ((size_t)(end - at) < 4 + (size_t)bytes)
            break;
        on_frame(connection, at + 4, bytes, now_ns);
        at += 4 + bytes;
    }
    keep_partial(connection, at, (uint32_t)(end - at));
    talk(connection);
}

/* -- connections ------------------------------------------------------------------------------------------------------- */

static void open_connection(void)
{
    struct connection *connection = &connections[opened];
    int on = 1;
    connection->index = opened++;
    connection->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0)
        stop(NOT_MEASURED, "No socket for c%u: %s.", connection->index, strerror(errno));
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connection->index < opt.senders) {
        connection->sender = allocate(sizeof *connection->sender);
        connection->sender->nick_bytes = name(connection, connection->sender->nick);
        connection->sender->in_flight = allocate(opt.window * sizeof *connection->sender->in_flight);
    }
    connection->unsent = allocate(connection->sender ? JOIN_MAX_BYTES + (size_t)opt.window * say_bytes : JOIN_MAX_BYTES);
    if (connect(connection->fd, address->ai_addr, address->ai_addrlen) != 0 && errno != EINPROGRESS)
        stop(NOT_MEASURED, "c%u cannot connect to %s:%s: %s.", connection->index, opt.host, opt.port, strerror(errno));
    watch(connection, EPOLL_CTL_ADD, true);
}

static void on_event(struct connection *connection, uint32_t events)
{
    if (!connection->connected) {
        int fault = 0;
        socklen_t fault_bytes = sizeof fault;
        getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &fault, &fault_bytes);
        if (fault != 0)
            stop(NOT_MEASURED, "c%u cannot connect to %s:%s: %s.", connection->index, opt.host, opt.port, strerror(fault));
        if (!(events & EPOLLOUT))
            return;
        connection->connected = true;
        join(connection);
    } else if (events & EPOLLOUT) {
        flush(connection);
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        receive(connection);
}

/* -- the course of a run ----------------------------------------------------------------------------------------------- */

/* Own CPU time comes from the clock that the server's comes from: both are the scheduler's, in nanoseconds. */
static struct mark mark_now(void)
{
    return (struct mark){clock_ns(CLOCK_MONOTONIC), clock_ns(CLOCK_PROCESS_CPUTIME_ID),
                         opt.server_pid ? clock_ns(server_clock) : 0, deliveries, says};
}

static uint32_t incomplete(void)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < opt.clients; i++)
        count += connections[i].accounted != newest_seq - connections[i].first_seq
                 || (connections[i].sender != NULL && connections[i].sender->in_flight_count > 0);
    return count;
}

static void enter_phase(enum phase next, uint64_t now_ns)
{
    phase = next;
    phase_began_ns = now_ns;
}

/* The next phase if it is due. Returns the seconds until something may be due without any event. */
static double advance(struct mark *began, struct mark *ended)
{
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    double left_s = 1;
    switch (phase) {
    case ENTERING:
        while (opened < opt.clients && opened - entered < opt.connect_batch)
            open_connection();
        if (entered < opt.clients)
            break;
        enter_phase(WARMING_UP, now_ns);
        for (uint32_t i = 0; i < opt.senders; i++)
            talk(&connections[i]);
        left_s = opt.warmup_s;
        break;
    case WARMING_UP:
        left_s = opt.warmup_s - (double)(now_ns - phase_began_ns) / NS_PER_S;
        if (left_s > 0)
            break;
        *began = mark_now();
        enter_phase(MEASURING, began->wall_ns);
        left_s = opt.measured_s;
        break;
    case MEASURING:
        left_s = opt.measured_s - (double)(now_ns - phase_began_ns) / NS_PER_S;
        if (left_s > 0)
            break;
        *ended = mark_now();
        enter_phase(DRAINING, ended->wall_ns);
        left_s = 0;
        break;
    case DRAINING:
        if (incomplete() == 0) {
            enter_phase(DONE, now_ns);
        } else if ((double)(now_ns - heard_ns) > SILENCE_S * NS_PER_S) {
            violation("%u connections lack messages or acks, of %" PRIu64 ", after %.0f s of silence", incomplete(),
                      newest_seq - connections[0].first_seq, SILENCE_S);
            enter_phase(DONE, now_ns);
        }
        break;
    case DONE:
        break;
    }
    return left_s;
}

static void run(struct mark *began, struct mark *ended)
{
    static const char *const doing[] = {"joining", "warming up", "measuring", "waiting for what was under way", "done"};
    uint64_t limit_ns = clock_ns(CLOCK_MONOTONIC) + (uint64_t)(opt.limit_s * NS_PER_S);
    while (phase != DONE) {
        struct epoll_event events[EVENTS];
        double wait_s = advance(began, ended);
        int count = epoll_wait(poller, events, EVENTS, wait_s > 1 ? 1000 : wait_s > 0 ? (int)(wait_s * 1000) + 1 : 0);
        if (count < 0 && errno != EINTR)
            stop(NOT_MEASURED, "epoll fails: %s.", strerror(errno));
        for (int i = 0; i < count; i++)
            on_event(events[i].data.ptr, events[i].events);
        if (clock_ns(CLOCK_MONOTONIC) > limit_ns)
            stop(NOT_MEASURED, "The time limit of %.0f s is over while %s (%u of %u are in the room).", opt.limit_s,
                 doing[phase], entered, opt.clients);
    }
}

static void report(const struct mark *began, const struct mark *ended)
{
    uint64_t delivered = ended->deliveries - began->deliveries;
    double wall_s = (double)(ended->wall_ns - began->wall_ns) / NS_PER_S;
    if (violations > 0)
        stop(BROKEN_RULE, "The server broke the protocol %" PRIu64 " times, first: %s.", violations, first_violation);
    if (delivered == 0)
        stop(NOT_MEASURED, "Nothing was delivered in the measured window.");
    printf("{\"clients\": %u, \"senders\": %u, \"window\": %u, \"text_bytes\": %u, \"wall_s\": %.6f, \"deliveries\": %" PRIu64
           ", \"says\": %" PRIu64 ", \"deliveries_per_s\": %.0f, \"p50_ms\": %.4f, \"p99_ms\": %.4f, \"max_ms\": %.4f, "
           "\"lagged\": %" PRIu64 ", \"load_cpu_s\": %.6f, \"server_cpu_s\": ",
           opt.clients, opt.senders, opt.window, opt.text_bytes, wall_s, delivered, ended->says - began->says,
           (double)delivered / wall_s, quantile_ms(0.5, delivered), quantile_ms(0.99, delivered),
           (double)longest_ns / 1e6, lagged, (double)(ended->load_cpu_ns - began->load_cpu_ns) / NS_PER_S);
    if (opt.server_pid)
        printf("%.6f}\n", (double)(ended->server_cpu_ns - began->server_cpu_ns) / NS_PER_S);
    else
        printf("null}\n");
}

/* -- the command line -------------------------------------------------------------------------------------------------- */

static double number_option(const char *name, const char *text, double lowest, double highest)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= lowest && value <= highest))
        stop(NOT_MEASURED, "--%s must be a number from %g to %g, not %s.", name, lowest, highest, text);
    return value;
}

static void read_options(int argc, char **argv)
{
    enum { CLIENTS, SENDERS, WINDOW, BYTES, WARMUP, SECONDS, BATCH, LIMIT, SERVER_PID };
    static const struct option known[] = {
        {"clients", required_argument, NULL, CLIENTS},     {"senders", required_argument, NULL, SENDERS},
        {"window", required_argument, NULL, WINDOW},       {"bytes", required_argument, NULL, BYTES},
        {"warmup", required_argument, NULL, WARMUP},       {"seconds", required_argument, NULL, SECONDS},
        {"connect-batch", required_argument, NULL, BATCH}, {"limit-s", required_argument, NULL, LIMIT},
        {"server-pid", required_argument, NULL, SERVER_PID}, {NULL, 0, NULL, 0}};
    const double longest_text = MAX_FRAME_BYTES - 128;  /* leaves room for the other fields of a `chat` */
    int which, chosen;
    while ((chosen = getopt_long(argc, argv, "", known, &which)) != -1) {
        switch (chosen) {
        case CLIENTS: opt.clients = (uint32_t)number_option("clients", optarg, 2, 1000000); break;
        case SENDERS: opt.senders = (uint32_t)number_option("senders", optarg, 1, 1000000); break;
        case WINDOW: opt.window = (uint32_t)number_option("window", optarg, 1, 10000); break;
        case BYTES: opt.text_bytes = (uint32_t)number_option("bytes", optarg, STAMP_BYTES, longest_text); break;
        case WARMUP: opt.warmup_s = number_option("warmup", optarg, 0, 3600); break;
        case SECONDS: opt.measured_s = number_option("seconds", optarg, 0.01, 3600); break;
        case BATCH: opt.connect_batch = (uint32_t)number_option("connect-batch", optarg, 1, 100000); break;
        case LIMIT: opt.limit_s = number_option("limit-s", optarg, 0.1, 100000); break;
        case SERVER_PID: opt.server_pid = (pid_t)number_option("server-pid", optarg, 1, 1 << 30); break;
        default: exit(NOT_MEASURED);    /* getopt has said why */
        }
    }
    char *colon = optind == argc - 1 ? strrchr(argv[optind], ':') : NULL;
    if (colon == NULL)
        stop(NOT_MEASURED, "Usage: load [--clients N] [--senders N] [--window N] [--bytes N] [--warmup S] [--seconds S] "
                           "[--connect-batch N] [--limit-s S] [--server-pid PID] HOST:PORT.");
    if (opt.senders > opt.clients)
        stop(NOT_MEASURED, "--senders must not be more than --clients.");
    *colon = '\0';
    opt.host = argv[optind];
    opt.port = colon + 1;
}

int main(int argc, char **argv)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct rlimit files;
    struct mark began, ended;
    read_options(argc, argv);
    int fault = getaddrinfo(opt.host, opt.port, &hints, &address);
    if (fault != 0)
        stop(NOT_MEASURED, "%s:%s is no address: %s.", opt.host, opt.port, gai_strerror(fault));
    if (opt.server_pid && (fault = clock_getcpuclockid(opt.server_pid, &server_clock)) != 0)
        stop(NOT_MEASURED, "Process %d has no CPU clock: %s.", (int)opt.server_pid, strerror(fault));
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    /* Ids start at the time of day in microseconds: a server that remembers them answers an id used before with the old `ack`. */
    next_id = clock_ns(CLOCK_REALTIME) / 1000;
    poller = epoll_create1(EPOLL_CLOEXEC);
    connections = allocate(opt.clients * sizeof *connections);
    make_say_template();
    run(&began, &ended);
    report(&began, &ended);
    return 0;
}
