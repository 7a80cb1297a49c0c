/* What the parts of the load generator share: main.c runs the course, stream.c has the sockets, websocket.c the WebSockets
 * on them, chat.c what is said in rooms, bare.c what is said to a server that knows nothing but WebSockets. */
#ifndef LOAD_H
#define LOAD_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { BROKEN_RULE = 1, NOT_MEASURED = 2 };

#define STAMP_BYTES 16
#define NICK_ROOM_BYTES 16
#define NS_PER_S 1000000000ull

/* What is asked of the server. */
enum task {
    CHAT,                               /* everybody is in a room, some talk */
    BROADCAST,                          /* what one says goes to all, themselves too; bare WebSockets */
    ECHO,                               /* what one says comes back; bare WebSockets */
    OPEN,                               /* nothing but to be there */
};

enum form { FRAMES, WEBSOCKET, LINES, FORMS };

enum phase { ENTERING, WARMING_UP, MEASURING, DRAINING, HOLDING, DONE };

struct options {
    const char *host, *port;
    enum task task;
    enum form forms[8];
    uint32_t clients, senders, window, text_bytes, rooms, connect_batch, form_count;
    double warmup_s, measured_s, limit_s;
    int server_pid;                     /* 0: none was given */
    bool tls, deflate, hold, joins;
};

struct said {
    uint64_t id, stamp_ns;
};

/* What only those who talk need. `in_flight` is a ring of --window entries, oldest first. */
struct sender {
    struct said *in_flight;
    uint32_t oldest, in_flight_count;
    uint64_t last_ack_seq;
    char nick[NICK_ROOM_BYTES];
    uint32_t nick_bytes;
};

struct message {
    uint64_t number, stamp_ns;
};

/* A room, or all who are connected to a bare server. */
struct room {
    char name[NICK_ROOM_BYTES];
    uint32_t name_bytes;
    uint64_t newest;                    /* number that anybody has seen */
    struct message *remembered;         /* the newest, by their number */
};

/* What is sent again and again; only the moment, and the id, differ. */
struct template {
    uint8_t *bytes;
    uint32_t size, payload_at, id_at, stamp_at;
    bool masked, has_id;
};

struct stream {
    int fd;
    void *tls;                          /* SSL *, where there is TLS */
    bool connected, polls_writable;
};

struct connection {
    struct stream stream;
    uint32_t index;
    enum form form;
    bool upgraded, welcomed, entered;
    struct room *room;
    uint64_t first, last, accounted;    /* the newest number on entering; of the last message; how many were seen since */
    uint8_t *partial;                   /* the beginning of a unit whose rest has not come */
    uint32_t partial_bytes, partial_room_bytes, wanted_bytes;
    uint8_t *unsent;
    uint32_t unsent_bytes, unsent_room_bytes;
    struct sender *sender;              /* NULL for those who only listen */
    const struct template *template;
    void *inflater;                     /* z_stream *, where the server compresses */
    bool forgets_context;
};

struct view {
    const uint8_t *at;
    uint32_t bytes;
};

extern struct options opt;
extern enum phase phase;
extern uint64_t deliveries, says, lagged, next_id, compressed_messages;

/* main.c */
_Noreturn void stop(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
void violation(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t now_ns(void);
void *allocate(size_t bytes);
void entered(struct connection *connection);
void record_latency(uint64_t latency_ns);
/* Says as much as the window allows, with one write. */
void talk(struct connection *connection);
/* The oldest message of this one is answered for. */
struct said answered(struct sender *sender);
/* A number stands for the same message wherever it arrives. */
void same_everywhere(struct room *room, uint64_t number, uint64_t stamp_ns);

/* stream.c */
void prepare_streams(void);
void open_stream(struct connection *connection);
/* What the kernel says of a connection: it is open, takes bytes, has some. */
void on_event(struct connection *connection, uint32_t events);
/* Waits for events, and deals with them; also for the end of standard input, where that is awaited. True once it came. */
bool wait_for_events(double wait_s);
void await_end_of_input(void);
uint8_t *room_to_send(struct connection *connection, uint32_t bytes);
void flush(struct connection *connection);
extern uint64_t heard_ns;

/* websocket.c */
void ask_for_upgrade(struct connection *connection);
/* Both take one unit from the front: the bytes that it had; 0 where it is not whole, `wanted_bytes` being set if known. */
uint32_t take_upgrade(struct connection *connection, const uint8_t *at, size_t bytes);
uint32_t take_websocket(struct connection *connection, const uint8_t *at, size_t bytes, uint64_t now);
/* Writes the header of a masked binary message; returns its bytes. */
uint32_t put_websocket_header(uint8_t *at, uint32_t payload_bytes);
void mask(uint8_t *payload, uint32_t from, uint32_t bytes);
#define WEBSOCKET_HEADER_MOST 14

/* chat.c */
void join(struct connection *connection);
const struct template *say_template(const struct connection *connection);
uint32_t take_frame(struct connection *connection, const uint8_t *at, size_t bytes, uint64_t now);
uint32_t take_line(struct connection *connection, const uint8_t *at, size_t bytes, uint64_t now);
void on_chat_frame(struct connection *connection, const uint8_t *frame, uint32_t bytes, uint64_t now);
void name_room(struct room *room, uint32_t number);

/* bare.c */
const struct template *bare_template(void);
void on_bare_message(struct connection *connection, const uint8_t *payload, uint32_t bytes, uint64_t now);

/* -- bytes ------------------------------------------------------------------------------------------------------------- */

static inline uint64_t number_at(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value = value << 8 | at[i];
    return value;
}

static inline uint8_t *put_number(uint8_t *at, unsigned bytes, uint64_t value)
{
    for (unsigned i = bytes; i-- > 0; value >>= 8)
        at[i] = (uint8_t)value;
    return at + bytes;
}

static inline void put_text(uint8_t *at, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)"the quick brown fox jumps over the lazy dog "[i % 44];
}

static inline void put_stamp(uint8_t *at, uint64_t stamp_ns)
{
    for (unsigned i = STAMP_BYTES; i-- > 0; stamp_ns >>= 4)
        at[i] = (uint8_t)"0123456789abcdef"[stamp_ns & 15];
}

/* When the text was said; 0, which no text carries, where it is not what was said. */
uint64_t stamp_of(struct view text, uint64_t now);
#endif
