/* Load for a chat server, or a bare WebSocket server, and the judge of what it delivers.
 *
 * Opens --clients connections to HOST:PORT, then lets the first --senders of them talk: each keeps --window messages of
 * --bytes bytes of text in flight and says the next when one is answered for (by an `ack`; by coming back). After --warmup
 * seconds everything that arrives is counted for --seconds seconds; then the senders fall silent and what is still under
 * way has to arrive. With --task=open they are only opened, and that is what is measured. With --hold all of them stay until
 * standard input ends. One JSON object on standard output reports.
 *
 * A text begins with the moment it was said, in nanoseconds of CLOCK_MONOTONIC as 16 hexadecimal digits. No two texts carry
 * the same moment, so it also names the message. What is checked on every connection:
 *
 *   - every field inside its frame, every text byte for byte as it was said;
 *   - someone who only listens gets every message of the room, in one order, each once;
 *   - a sender of the chat gets ascending numbers, never its own words; an `ack` for each `say`, in the order they were said;
 *     at the end both together are every number of the room; a sender of a bare server gets its own words in order;
 *   - a number stands for the same message wherever it arrives (the newest are compared).
 *
 * Exit status: 0 all was well; 1 the server broke a rule; 2 it could not be measured (refused, closed, too slow, wrong use).
 * Every failure is one sentence on standard error. Linux only (epoll, the CPU clock of another process).
 */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define REMEMBERED 65536                /* messages of all rooms together */
#define REMEMBERED_LEAST 256
#define SILENCE_S 5.0                   /* after so long without a byte nothing is under way any more */
#define SUB_BUCKETS 32                  /* of each power of two: latencies are good to 3 % */
#define BUCKETS (64 * SUB_BUCKETS)

/* The clocks and counters at one end of the measured window. */
struct mark {
    uint64_t wall_ns, load_cpu_ns, load_waited_ns, server_cpu_ns, server_waited_ns, deliveries, says;
};

struct options opt = {.clients = 200, .senders = 4, .window = 4, .text_bytes = 64, .rooms = 1, .connect_batch = 50,
                      .forms = {FRAMES}, .form_count = 1, .warmup_s = 1, .measured_s = 5, .limit_s = 120};
enum phase phase = ENTERING;
uint64_t deliveries, says, lagged, next_id, compressed_messages;

static struct connection *connections;
static struct room *rooms;
static uint32_t remembered_count;
static clockid_t server_clock;
static uint64_t phase_began_ns, last_stamp_ns, violations;
static uint32_t opened_count, entered_count;
static char first_violation[256];
static uint64_t histogram[BUCKETS], longest_ns;

void stop(int status, const char *format, ...)
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
void violation(const char *format, ...)
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

uint64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

void *allocate(size_t bytes)
{
    void *memory = calloc(1, bytes);
    if (memory == NULL)
        stop(NOT_MEASURED, "Out of memory.");
    return memory;
}

/* -- latencies --------------------------------------------------------------------------------------------------------- */

void record_latency(uint64_t latency_ns)
{
    unsigned shift = 0;
    if (phase != MEASURING)
        return;
    if (latency_ns >= 2 * SUB_BUCKETS)
        shift = 58 - (unsigned)__builtin_clzll(latency_ns);     /* leaves the six highest bits: 32..63 */
    histogram[shift * SUB_BUCKETS + (latency_ns >> shift)]++;
    if (latency_ns > longest_ns)
        longest_ns = latency_ns;
}

/* The middle of the bucket below which `share` of all recorded latencies lie. */
static double quantile_ms(double share)
{
    uint64_t recorded = 0, seen = 0;
    for (uint32_t bucket = 0; bucket < BUCKETS; bucket++)
        recorded += histogram[bucket];
    uint64_t wanted = (uint64_t)(share * (double)recorded);
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

/* -- what is said, and what comes of it -------------------------------------------------------------------------------- */

void talk(struct connection *connection)
{
    struct sender *sender = connection->sender;
    if (sender == NULL || (phase != WARMING_UP && phase != MEASURING) || sender->in_flight_count == opt.window)
        return;
    const struct template *template = connection->template;
    while (sender->in_flight_count < opt.window) {
        uint64_t now = now_ns();
        last_stamp_ns = now > last_stamp_ns ? now : last_stamp_ns + 1;
        struct said *said = &sender->in_flight[(sender->oldest + sender->in_flight_count++) % opt.window];
        *said = (struct said){next_id++, last_stamp_ns};
        uint8_t *to = room_to_send(connection, template->size);
        memcpy(to, template->bytes, template->size);
        if (template->has_id) {
            put_number(to + template->id_at, 8, said->id);
            if (template->masked)
                mask(to + template->payload_at, template->id_at - template->payload_at, 8);
        }
        put_stamp(to + template->stamp_at, said->stamp_ns);
        if (template->masked)
            mask(to + template->payload_at, template->stamp_at - template->payload_at, STAMP_BYTES);
        connection->unsent_bytes += template->size;
    }
    flush(connection);
}

struct said answered(struct sender *sender)
{
    struct said said = sender->in_flight[sender->oldest];
    sender->oldest = (sender->oldest + 1) % opt.window;
    sender->in_flight_count--;
    says++;
    return said;
}

uint64_t stamp_of(struct view text, uint64_t now)
{
    static uint8_t *expected;
    if (expected == NULL) {
        expected = allocate(opt.text_bytes);
        put_text(expected, opt.text_bytes);
    }
    if (text.bytes != opt.text_bytes
        || memcmp(text.at + STAMP_BYTES, expected + STAMP_BYTES, text.bytes - STAMP_BYTES) != 0)
        return 0;
    uint64_t value = 0;
    for (unsigned i = 0; i < STAMP_BYTES; i++) {
        unsigned digit = text.at[i] - (unsigned)'0', letter = text.at[i] - (unsigned)'a';
        if (digit > 9 && letter > 5)
            return 0;
        value = value << 4 | (digit <= 9 ? digit : letter + 10);
    }
    return value <= now ? value : 0;
}

void same_everywhere(struct room *room, uint64_t number, uint64_t stamp_ns)
{
    struct message *slot = &room->remembered[number & (remembered_count - 1)];
    if (slot->number == number && slot->stamp_ns != stamp_ns)
        violation("Number %" PRIu64 " of room %s is not the same message everywhere", number, room->name);
    if (slot->number < number)
        *slot = (struct message){number, stamp_ns};
    if (number > room->newest)
        room->newest = number;
}

void entered(struct connection *connection)
{
    connection->entered = true;
    entered_count++;
}

/* -- the course of a run ----------------------------------------------------------------------------------------------- */

static void open_connection(void)
{
    struct connection *connection = &connections[opened_count];
    uint32_t index = connection->index = opened_count++;
    connection->room = &rooms[index % opt.rooms];
    connection->form = opt.forms[(index + index / opt.rooms) % opt.form_count];
    if (opt.task != OPEN && index < opt.senders) {
        if (connection->form == LINES)  /* where nothing tells what was kept */
            connection->form = FRAMES;
        connection->sender = allocate(sizeof *connection->sender);
        connection->sender->in_flight = allocate(opt.window * sizeof *connection->sender->in_flight);
        connection->template = opt.task == CHAT ? say_template(connection) : bare_template();
    }
    open_stream(connection);
}

/* How long a process's main thread was ready to run and had no core, since it began; 0 where the kernel does not tell. */
static uint64_t waited_ns_of(int pid)
{
    char path[64];
    unsigned long long ran_ns, waited_ns = 0;
    snprintf(path, sizeof path, "/proc/%d/schedstat", pid);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%llu %llu", &ran_ns, &waited_ns) != 2)
        waited_ns = 0;
    fclose(file);
    return waited_ns;
}

/* Own CPU time comes from the clock that the server's comes from: both are the scheduler's, in nanoseconds. */
static struct mark mark_now(void)
{
    return (struct mark){now_ns(), clock_ns(CLOCK_PROCESS_CPUTIME_ID), waited_ns_of(getpid()),
                         opt.server_pid ? clock_ns(server_clock) : 0, opt.server_pid ? waited_ns_of(opt.server_pid) : 0,
                         deliveries, says};
}

static bool lacks(const struct connection *connection)
{
    if (connection->sender != NULL && connection->sender->in_flight_count > 0)
        return true;
    return opt.task != ECHO && connection->accounted != connection->room->newest - connection->first;
}

static uint32_t incomplete(void)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < opt.clients; i++)
        count += lacks(&connections[i]);
    return count;
}

static void enter_phase(enum phase next, uint64_t now)
{
    phase = next;
    phase_began_ns = now;
}

static void begin_to_talk(uint64_t now)
{
    enter_phase(WARMING_UP, now);
    for (uint32_t i = 0; i < opt.clients; i++)
        if (connections[i].form == LINES)       /* lines have no numbers: from here on they are counted */
            connections[i].first = connections[i].last = connections[i].room->newest;
    for (uint32_t i = 0; i < opt.senders; i++)
        talk(&connections[i]);
}

static void end_measuring(struct mark *ended)
{
    *ended = mark_now();
    if (opt.task == OPEN && opt.hold)
        await_end_of_input();
    enter_phase(opt.task != OPEN ? DRAINING : opt.hold ? HOLDING : DONE, ended->wall_ns);
}

/* The next phase if it is due. Returns the seconds until something may be due without any event. */
static double advance(struct mark *began, struct mark *ended)
{
    uint64_t now = now_ns();
    double left_s = 1;
    switch (phase) {
    case ENTERING:
        if (opt.task == OPEN && opened_count == 0)
            *began = mark_now();
        while (opened_count < opt.clients && opened_count - entered_count < opt.connect_batch)
            open_connection();
        if (entered_count < opt.clients)
            break;
        if (opt.task == OPEN) {
            end_measuring(ended);
        } else {
            begin_to_talk(now);
            left_s = opt.warmup_s;
        }
        break;
    case WARMING_UP:
        left_s = opt.warmup_s - (double)(now - phase_began_ns) / NS_PER_S;
        if (left_s > 0)
            break;
        *began = mark_now();
        enter_phase(MEASURING, began->wall_ns);
        left_s = opt.measured_s;
        break;
    case MEASURING:
        left_s = opt.measured_s - (double)(now - phase_began_ns) / NS_PER_S;
        if (left_s > 0)
            break;
        end_measuring(ended);
        left_s = 0;
        break;
    case DRAINING:
        if (incomplete() == 0) {
            enter_phase(DONE, now);
        } else if ((double)(now - heard_ns) > SILENCE_S * NS_PER_S) {
            violation("%u connections lack messages or answers after %.0f s of silence", incomplete(), SILENCE_S);
            enter_phase(DONE, now);
        }
        break;
    case HOLDING:
    case DONE:
        break;
    }
    return left_s;
}

static void report(const struct mark *began, const struct mark *ended)
{
    uint64_t delivered = ended->deliveries - began->deliveries;
    double wall_s = (double)(ended->wall_ns - began->wall_ns) / NS_PER_S;
    if (violations > 0)
        stop(BROKEN_RULE, "The server broke the rules %" PRIu64 " times, first: %s.", violations, first_violation);
    if (delivered == 0 && opt.task != OPEN)
        stop(NOT_MEASURED, "Nothing was delivered in the measured window.");
    if (opt.deflate && compressed_messages == 0 && opt.task != OPEN)
        stop(NOT_MEASURED, "The server compressed nothing.");
    printf("{\"clients\": %u, \"wall_s\": %.6f, \"deliveries\": %" PRIu64 ", \"says\": %" PRIu64 ", \"p50_ms\": %.4f, "
           "\"p99_ms\": %.4f, \"max_ms\": %.4f, \"lagged\": %" PRIu64 ", \"load_cpu_s\": %.6f, \"load_waited_s\": %.6f, \"server_cpu_s\": ",
           opt.clients, wall_s, delivered, ended->says - began->says, quantile_ms(0.5), quantile_ms(0.99),
           (double)longest_ns / 1e6, lagged, (double)(ended->load_cpu_ns - began->load_cpu_ns) / NS_PER_S,
           (double)(ended->load_waited_ns - began->load_waited_ns) / NS_PER_S);
    if (opt.server_pid)
        printf("%.6f, \"server_waited_s\": %.6f}\n", (double)(ended->server_cpu_ns - began->server_cpu_ns) / NS_PER_S,
               (double)(ended->server_waited_ns - began->server_waited_ns) / NS_PER_S);
    else
        printf("null, \"server_waited_s\": null}\n");
    fflush(stdout);
}

static void run(void)
{
    static const char *const doing[] = {"entering", "warming up", "measuring", "waiting for what was under way"};
    uint64_t limit_ns = now_ns() + (uint64_t)(opt.limit_s * NS_PER_S);
    struct mark began = {0}, ended = {0};
    bool reported = false;
    while (phase != DONE) {
        double wait_s = advance(&began, &ended);
        if (phase == HOLDING && !reported) {
            report(&began, &ended);
            reported = true;
        }
        if (wait_for_events(wait_s))
            phase = DONE;
        if (phase < HOLDING && now_ns() > limit_ns)
            stop(NOT_MEASURED, "The time limit of %.0f s is over while %s (%u of %u are in).", opt.limit_s,
                 doing[phase], entered_count, opt.clients);
    }
    if (!reported)
        report(&began, &ended);
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

static unsigned word_option(const char *name, const char *text, size_t bytes, const char *const words[], unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (strlen(words[i]) == bytes && memcmp(words[i], text, bytes) == 0)
            return i;
    stop(NOT_MEASURED, "--%s knows nothing called %.*s.", name, (int)bytes, text);
}

static void read_forms(const char *text)
{
    static const char *const words[] = {"frames", "websocket", "lines"};
    for (opt.form_count = 0; opt.form_count < sizeof opt.forms / sizeof *opt.forms; text++) {
        size_t bytes = strcspn(text, ",");
        opt.forms[opt.form_count++] = (enum form)word_option("forms", text, bytes, words, FORMS);
        text += bytes;
        if (*text == '\0')
            return;
    }
    stop(NOT_MEASURED, "--forms takes at most %zu of them.", sizeof opt.forms / sizeof *opt.forms);
}

static void read_options(int argc, char **argv)
{
    enum { TASK, FORM, CLIENTS, SENDERS, WINDOW, BYTES, ROOMS, WARMUP, SECONDS, BATCH, LIMIT, SERVER_PID, TLS, DEFLATE, HOLD, JOIN };
    static const struct option known[] = {
        {"task", required_argument, NULL, TASK},             {"forms", required_argument, NULL, FORM},
        {"clients", required_argument, NULL, CLIENTS},       {"senders", required_argument, NULL, SENDERS},
        {"window", required_argument, NULL, WINDOW},         {"bytes", required_argument, NULL, BYTES},
        {"rooms", required_argument, NULL, ROOMS},           {"warmup", required_argument, NULL, WARMUP},
        {"seconds", required_argument, NULL, SECONDS},       {"connect-batch", required_argument, NULL, BATCH},
        {"limit-s", required_argument, NULL, LIMIT},         {"server-pid", required_argument, NULL, SERVER_PID},
        {"tls", no_argument, NULL, TLS},                     {"deflate", no_argument, NULL, DEFLATE},
        {"hold", no_argument, NULL, HOLD},                   {"join", no_argument, NULL, JOIN},
        {NULL, 0, NULL, 0}};
    static const char *const tasks[] = {"chat", "broadcast", "echo", "open"};
    const double longest_text = 16 << 20;
    int which, chosen;
    while ((chosen = getopt_long(argc, argv, "", known, &which)) != -1) {
        switch (chosen) {
        case TASK: opt.task = (enum task)word_option("task", optarg, strlen(optarg), tasks, 4); break;
        case FORM: read_forms(optarg); break;
        case CLIENTS: opt.clients = (uint32_t)number_option("clients", optarg, 1, 1000000); break;
        case SENDERS: opt.senders = (uint32_t)number_option("senders", optarg, 1, 1000000); break;
        case WINDOW: opt.window = (uint32_t)number_option("window", optarg, 1, 10000); break;
        case BYTES: opt.text_bytes = (uint32_t)number_option("bytes", optarg, STAMP_BYTES, longest_text); break;
        case ROOMS: opt.rooms = (uint32_t)number_option("rooms", optarg, 1, 100000); break;
        case WARMUP: opt.warmup_s = number_option("warmup", optarg, 0, 3600); break;
        case SECONDS: opt.measured_s = number_option("seconds", optarg, 0.01, 3600); break;
        case BATCH: opt.connect_batch = (uint32_t)number_option("connect-batch", optarg, 1, 100000); break;
        case LIMIT: opt.limit_s = number_option("limit-s", optarg, 0.1, 100000); break;
        case SERVER_PID: opt.server_pid = (int)number_option("server-pid", optarg, 1, 1 << 30); break;
        case TLS: opt.tls = true; break;
        case DEFLATE: opt.deflate = true; break;
        case HOLD: opt.hold = true; break;
        case JOIN: opt.joins = true; break;
        default: exit(NOT_MEASURED);    /* getopt has said why */
        }
    }
    char *colon = optind == argc - 1 ? strrchr(argv[optind], ':') : NULL;
    if (colon == NULL)
        stop(NOT_MEASURED, "Usage: load [--task chat|broadcast|echo|open] [--forms frames,websocket,lines] [--clients N] "
                           "[--senders N] [--window N] [--bytes N] [--rooms N] [--warmup S] [--seconds S] [--connect-batch N] "
                           "[--limit-s S] [--server-pid PID] [--tls] [--deflate] [--hold] [--join] HOST:PORT.");
    if (opt.task != OPEN && opt.senders > opt.clients)
        stop(NOT_MEASURED, "--senders must not be more than --clients.");
    if (opt.task == BROADCAST || opt.task == ECHO) {
        opt.forms[0] = WEBSOCKET;
        opt.form_count = opt.rooms = 1;
    }
    if (opt.task == CHAT)
        opt.joins = true;
    *colon = '\0';
    opt.host = argv[optind];
    opt.port = colon + 1;
}

int main(int argc, char **argv)
{
    struct rlimit files;
    int fault;
    read_options(argc, argv);
    if (opt.server_pid && (fault = clock_getcpuclockid(opt.server_pid, &server_clock)) != 0)
        stop(NOT_MEASURED, "Process %d has no CPU clock: %s.", opt.server_pid, strerror(fault));
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    /* Ids start at the time of day in microseconds: a server that remembers them answers an id used before with the old `ack`. */
    next_id = clock_ns(CLOCK_REALTIME) / 1000;
    connections = allocate(opt.clients * sizeof *connections);
    rooms = allocate(opt.rooms * sizeof *rooms);
    for (remembered_count = REMEMBERED; remembered_count > REMEMBERED_LEAST && remembered_count * opt.rooms > REMEMBERED;)
        remembered_count /= 2;
    for (uint32_t i = 0; i < opt.rooms; i++) {
        rooms[i].remembered = allocate(remembered_count * sizeof *rooms[i].remembered);
        name_room(&rooms[i], i);
    }
    prepare_streams();
    run();
    return 0;
}
