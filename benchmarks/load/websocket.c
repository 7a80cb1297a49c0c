/* WebSockets (RFC 6455), a client's side: the opening handshake, frames, and what was compressed (RFC 7692). */
#define _GNU_SOURCE
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#ifdef WITH_ZLIB
#include <zlib.h>
#endif

enum { CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };
enum { FIN = 0x80, RSV1 = 0x40, MASKED = 0x80 };
#define HANDSHAKE_MOST_BYTES 8192
#define INFLATED_MOST_BYTES (1 << 20)
#define CONTROL_MOST_BYTES 125

/* One key for all: nobody between here and the server could be fooled by it. */
static const uint8_t masking_key[4] = {0x37, 0xfa, 0x21, 0x3d};

void mask(uint8_t *payload, uint32_t from, uint32_t bytes)
{
    for (uint32_t i = from; i < from + bytes; i++)
        payload[i] ^= masking_key[i & 3];
}

uint32_t put_websocket_header(uint8_t *at, uint32_t payload_bytes)
{
    uint8_t *to = at;
    *to++ = FIN | BINARY;
    if (payload_bytes < 126) {
        *to++ = (uint8_t)(MASKED | payload_bytes);
    } else if (payload_bytes < 65536) {
        *to++ = MASKED | 126;
        to = put_number(to, 2, payload_bytes);
    } else {
        *to++ = MASKED | 127;
        to = put_number(to, 8, payload_bytes);
    }
    memcpy(to, masking_key, sizeof masking_key);
    return (uint32_t)(to + sizeof masking_key - at);
}

/* -- the opening handshake --------------------------------------------------------------------------------------------- */

void ask_for_upgrade(struct connection *connection)
{
    char request[512];
    int bytes = snprintf(request, sizeof request,
                         "GET /chat HTTP/1.1\r\nHost: %s:%s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s%s\r\n",
                         opt.host, opt.port, opt.joins ? "Sec-WebSocket-Protocol: chat.v1.bin\r\n" : "",
                         opt.deflate ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : "");
    memcpy(room_to_send(connection, (uint32_t)bytes), request, (size_t)bytes);
    connection->unsent_bytes += (uint32_t)bytes;
}

static void agree_to_deflate(struct connection *connection, const char *head, size_t bytes)
{
    if (!opt.deflate)
        return;
    if (memmem(head, bytes, "permessage-deflate", 18) == NULL)
        stop(NOT_MEASURED, "The server does not compress.");
#ifdef WITH_ZLIB
    connection->forgets_context = memmem(head, bytes, "server_no_context_takeover", 26) != NULL;
    connection->inflater = allocate(sizeof(z_stream));
    if (inflateInit2((z_stream *)connection->inflater, -15) != Z_OK)
        stop(NOT_MEASURED, "zlib cannot be used.");
#else
    (void)connection;
    stop(NOT_MEASURED, "This load generator was compiled without zlib (its headers are in zlib1g-dev).");
#endif
}

uint32_t take_upgrade(struct connection *connection, const uint8_t *at, size_t bytes)
{
    const char *head = (const char *)at, *end = memmem(at, bytes, "\r\n\r\n", 4);
    if (end == NULL) {
        if (bytes > HANDSHAKE_MOST_BYTES)
            stop(BROKEN_RULE, "c%u got an answer to its handshake of more than %d bytes.", connection->index,
                 HANDSHAKE_MOST_BYTES);
        return 0;
    }
    size_t head_bytes = (size_t)(end - head) + 4;
    if (memcmp(head, "HTTP/1.1 101", head_bytes < 12 ? head_bytes : 12) != 0)
        stop(NOT_MEASURED, "The server refused the WebSocket of c%u: %.*s.", connection->index, (int)strcspn(head, "\r"), head);
    agree_to_deflate(connection, head, head_bytes);
    connection->upgraded = true;
    if (opt.joins) {
        join(connection);
        flush(connection);
    } else {
        entered(connection);
    }
    return (uint32_t)head_bytes;
}

/* -- messages ---------------------------------------------------------------------------------------------------------- */

static void on_message(struct connection *connection, const uint8_t *payload, uint32_t bytes, uint64_t now)
{
    if (opt.joins && bytes > 0)
        on_chat_frame(connection, payload, bytes, now);
    else
        on_bare_message(connection, payload, bytes, now);
}

static void on_compressed(struct connection *connection, const uint8_t *payload, uint32_t bytes, uint64_t now)
{
#ifdef WITH_ZLIB
    static uint8_t inflated[INFLATED_MOST_BYTES];
    static const uint8_t tail[] = {0x00, 0x00, 0xff, 0xff};
    z_stream *inflater = connection->inflater;
    if (inflater == NULL)
        stop(BROKEN_RULE, "c%u got something compressed and had not asked for it.", connection->index);
    inflater->next_out = inflated;
    inflater->avail_out = sizeof inflated;
    inflater->next_in = (uint8_t *)payload;
    inflater->avail_in = bytes;
    int first = inflate(inflater, Z_SYNC_FLUSH);
    inflater->next_in = (uint8_t *)tail;
    inflater->avail_in = sizeof tail;
    int last = inflate(inflater, Z_SYNC_FLUSH);
    if ((first != Z_OK && first != Z_BUF_ERROR) || (last != Z_OK && last != Z_BUF_ERROR) || inflater->avail_out == 0)
        stop(BROKEN_RULE, "c%u got something that cannot be decompressed.", connection->index);
    compressed_messages++;
    on_message(connection, inflated, (uint32_t)(sizeof inflated - inflater->avail_out), now);
    if (connection->forgets_context)
        inflateReset(inflater);
#else
    (void)payload, (void)bytes, (void)now;
    stop(BROKEN_RULE, "c%u got something compressed and had not asked for it.", connection->index);
#endif
}

static void answer_ping(struct connection *connection, const uint8_t *payload, uint32_t bytes)
{
    uint8_t *to = room_to_send(connection, WEBSOCKET_HEADER_MOST + bytes);
    uint32_t header_bytes = put_websocket_header(to, bytes);
    to[0] = FIN | PONG;
    memcpy(to + header_bytes, payload, bytes);
    mask(to + header_bytes, 0, bytes);
    connection->unsent_bytes += header_bytes + bytes;
}

uint32_t take_websocket(struct connection *connection, const uint8_t *at, size_t bytes, uint64_t now)
{
    if (bytes < 2)
        return 0;
    unsigned opcode = at[0] & 0x0f, size_bytes = (at[1] & 0x7f) == 126 ? 2 : (at[1] & 0x7f) == 127 ? 8 : 0;
    uint32_t header_bytes = 2 + size_bytes;
    if (bytes < header_bytes)
        return 0;
    uint64_t payload_bytes = size_bytes ? number_at(at + 2, size_bytes) : at[1] & 0x7fu;
    if (at[1] & MASKED || payload_bytes > (1u << 30) || (opcode >= CLOSE && payload_bytes > CONTROL_MOST_BYTES))
        stop(BROKEN_RULE, "c%u got a frame that begins with %02x %02x.", connection->index, at[0], at[1]);
    if (!(at[0] & FIN) || opcode == CONTINUATION)
        stop(NOT_MEASURED, "The server cuts messages into fragments, which is not understood here.");
    if (bytes < header_bytes + payload_bytes) {
        connection->wanted_bytes = header_bytes + (uint32_t)payload_bytes;
        return 0;
    }
    const uint8_t *payload = at + header_bytes;
    switch (opcode) {
    case TEXT:
    case BINARY:
        if (at[0] & RSV1)
            on_compressed(connection, payload, (uint32_t)payload_bytes, now);
        else
            on_message(connection, payload, (uint32_t)payload_bytes, now);
        break;
    case PING:
        answer_ping(connection, payload, (uint32_t)payload_bytes);
        break;
    case CLOSE:
        stop(NOT_MEASURED, "The server closed the WebSocket of c%u with %u %.*s.", connection->index,
             payload_bytes < 2 ? 1005 : (unsigned)number_at(payload, 2), payload_bytes < 2 ? 0 : (int)payload_bytes - 2,
             (const char *)payload + 2);
    default:
        break;
    }
    return header_bytes + (uint32_t)payload_bytes;
}
