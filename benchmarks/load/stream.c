/* Sockets: opening them, TLS on them, what is sent and what comes, and the kernel's events. */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/ssl.h>
#endif

#define EVENTS 1024
#define RECEIVE_BYTES (256 * 1024)
#define LARGE_BYTES 65536               /* what is longer is received where it is kept */

uint64_t heard_ns;

static struct addrinfo *address;
static int poller;
static bool awaits_end_of_input;
#ifdef WITH_TLS
static SSL_CTX *tls_context;
#endif

void prepare_streams(void)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int fault = getaddrinfo(opt.host, opt.port, &hints, &address);
    if (fault != 0)
        stop(NOT_MEASURED, "%s:%s is no address: %s.", opt.host, opt.port, gai_strerror(fault));
    poller = epoll_create1(EPOLL_CLOEXEC);
#ifdef WITH_TLS
    if (opt.tls) {
        /* Whose certificate it is does not matter here: the server is on this machine, and was just started. */
        tls_context = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    }
#else
    if (opt.tls)
        stop(NOT_MEASURED, "This load generator was compiled without OpenSSL (its headers are in libssl-dev).");
#endif
}

/* -- bytes out and in -------------------------------------------------------------------------------------------------- */

#ifdef WITH_TLS
/* Like a system call: -1 with EAGAIN where there is nothing to be done now, 0 at the end. */
static ssize_t tls_outcome(SSL *tls, int done)
{
    if (done > 0)
        return done;
    switch (SSL_get_error(tls, done)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        errno = errno ? errno : EPROTO;
        return -1;
    }
}
#endif

static ssize_t stream_write(struct stream *stream, const uint8_t *at, size_t bytes)
{
#ifdef WITH_TLS
    if (stream->tls != NULL)
        return tls_outcome(stream->tls, SSL_write(stream->tls, at, (int)bytes));
#endif
    return send(stream->fd, at, bytes, MSG_NOSIGNAL);
}

static ssize_t stream_read(struct stream *stream, uint8_t *at, size_t bytes)
{
#ifdef WITH_TLS
    if (stream->tls != NULL)
        return tls_outcome(stream->tls, SSL_read(stream->tls, at, (int)bytes));
#endif
    return recv(stream->fd, at, bytes, 0);
}

static void watch(struct connection *connection, int operation, bool writable)
{
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0u), .data.ptr = connection};
    if (epoll_ctl(poller, operation, connection->stream.fd, &event) != 0)
        stop(NOT_MEASURED, "epoll refuses a connection: %s.", strerror(errno));
    connection->stream.polls_writable = writable;
}

uint8_t *room_to_send(struct connection *connection, uint32_t bytes)
{
    uint32_t needed = connection->unsent_bytes + bytes;
    if (needed > connection->unsent_room_bytes) {
        connection->unsent = realloc(connection->unsent, needed);
        if (connection->unsent == NULL)
            stop(NOT_MEASURED, "Out of memory.");
        connection->unsent_room_bytes = needed;
    }
    return connection->unsent + connection->unsent_bytes;
}

void flush(struct connection *connection)
{
    uint32_t sent = 0;
    while (sent < connection->unsent_bytes) {
        ssize_t taken = stream_write(&connection->stream, connection->unsent + sent, connection->unsent_bytes - sent);
        if (taken < 0 && errno == EAGAIN)
            break;
        if (taken < 0 && errno != EINTR)
            stop(NOT_MEASURED, "The server closed the connection of c%u: %s.", connection->index, strerror(errno));
        if (taken > 0)
            sent += (uint32_t)taken;
    }
    connection->unsent_bytes -= sent;
    if (connection->unsent_bytes > 0)
        memmove(connection->unsent, connection->unsent + sent, connection->unsent_bytes);
    if (connection->stream.polls_writable != (connection->unsent_bytes > 0))
        watch(connection, EPOLL_CTL_MOD, connection->unsent_bytes > 0);
}

static uint32_t take(struct connection *connection, const uint8_t *at, size_t bytes, uint64_t now)
{
    switch (connection->form) {
    case FRAMES:
        return take_frame(connection, at, bytes, now);
    case WEBSOCKET:
        return connection->upgraded ? take_websocket(connection, at, bytes, now) : take_upgrade(connection, at, bytes);
    default:
        return take_line(connection, at, bytes, now);
    }
}

static void keep_partial(struct connection *connection, const uint8_t *at, uint32_t bytes)
{
    uint32_t room_bytes = connection->wanted_bytes > bytes ? connection->wanted_bytes : bytes;
    if (room_bytes > connection->partial_room_bytes) {
        uint8_t *partial = allocate(room_bytes);
        memcpy(partial, at, bytes);
        free(connection->partial);
        connection->partial = partial;
        connection->partial_room_bytes = room_bytes;
    } else if (bytes > 0) {
        memmove(connection->partial, at, bytes);
    }
    connection->partial_bytes = bytes;
}

/* False where nothing more is there now. */
static bool receive_once(struct connection *connection)
{
    /* One buffer for all: it stays in the cache, and a connection in rest holds nothing. */
    static uint8_t buffer[RECEIVE_BYTES];
    uint32_t held = connection->partial_bytes;
    bool in_place = held > 0 && connection->wanted_bytes > LARGE_BYTES && connection->wanted_bytes <= connection->partial_room_bytes;
    uint8_t *at = in_place ? connection->partial : buffer;
    size_t room_bytes = in_place ? connection->wanted_bytes : sizeof buffer;
    if (room_bytes <= held)
        stop(BROKEN_RULE, "c%u got something without an end.", connection->index);
    ssize_t got = stream_read(&connection->stream, at + held, room_bytes - held);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (got <= 0)
        stop(NOT_MEASURED, "The server closed the connection of c%u%s%s.", connection->index, got < 0 ? ": " : "",
             got < 0 ? strerror(errno) : "");
    uint64_t now = heard_ns = now_ns();
    if (held > 0 && !in_place)
        memcpy(buffer, connection->partial, held);
    const uint8_t *end = at + held + got;
    for (uint32_t taken = 1; at < end && taken > 0; at += taken) {
        connection->wanted_bytes = 0;
        taken = take(connection, at, (size_t)(end - at), now);
    }
    keep_partial(connection, at, (uint32_t)(end - at));
    return true;
}

static void receive(struct connection *connection)
{
    if (connection->stream.tls == NULL)
        receive_once(connection);       /* the kernel says so if there is more */
    else
        while (receive_once(connection))
            ;
    talk(connection);
    if (connection->unsent_bytes > 0 && !connection->stream.polls_writable)
        flush(connection);
}

/* -- connections ------------------------------------------------------------------------------------------------------- */

void open_stream(struct connection *connection)
{
    struct stream *stream = &connection->stream;
    int on = 1;
    stream->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (stream->fd < 0)
        stop(NOT_MEASURED, "No socket for c%u: %s.", connection->index, strerror(errno));
    setsockopt(stream->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(stream->fd, address->ai_addr, address->ai_addrlen) != 0 && errno != EINPROGRESS)
        stop(NOT_MEASURED, "c%u cannot connect to %s:%s: %s.", connection->index, opt.host, opt.port, strerror(errno));
#ifdef WITH_TLS
    if (opt.tls) {
        stream->tls = SSL_new(tls_context);
        SSL_set_fd(stream->tls, stream->fd);
        SSL_set_connect_state(stream->tls);
    }
#endif
    watch(connection, EPOLL_CTL_ADD, true);
}

static void connected(struct connection *connection)
{
    connection->stream.connected = true;
    if (connection->form == WEBSOCKET)
        ask_for_upgrade(connection);
    else if (opt.joins)
        join(connection);
    else
        entered(connection);
    flush(connection);
}

void on_event(struct connection *connection, uint32_t events)
{
    if (!connection->stream.connected) {
        int fault = 0;
        socklen_t fault_bytes = sizeof fault;
        getsockopt(connection->stream.fd, SOL_SOCKET, SO_ERROR, &fault, &fault_bytes);
        if (fault != 0)
            stop(NOT_MEASURED, "c%u cannot connect to %s:%s: %s.", connection->index, opt.host, opt.port, strerror(fault));
        if (!(events & EPOLLOUT))
            return;
        connected(connection);
    } else if (events & EPOLLOUT) {
        flush(connection);
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        receive(connection);
    }
}

void await_end_of_input(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event) != 0)
        stop(NOT_MEASURED, "--hold needs a standard input that can be waited for: %s.", strerror(errno));
    awaits_end_of_input = true;
}

bool wait_for_events(double wait_s)
{
    struct epoll_event events[EVENTS];
    bool ended = false;
    int count = epoll_wait(poller, events, EVENTS, wait_s > 1 ? 1000 : wait_s > 0 ? (int)(wait_s * 1000) + 1 : 0);
    if (count < 0 && errno != EINTR)
        stop(NOT_MEASURED, "epoll fails: %s.", strerror(errno));
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == NULL)
            ended = awaits_end_of_input;
        else
            on_event(events[i].data.ptr, events[i].events);
    }
    return ended;
}
