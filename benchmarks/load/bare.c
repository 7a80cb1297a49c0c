/* What is said to a server that knows nothing but WebSockets: it sends each message back, or to everybody. */
#define _GNU_SOURCE
#include "load.h"

#include <inttypes.h>

const struct template *bare_template(void)
{
    static struct template template;
    if (template.bytes == NULL) {
        template.bytes = allocate(WEBSOCKET_HEADER_MOST + opt.text_bytes);
        template.payload_at = template.stamp_at = put_websocket_header(template.bytes, opt.text_bytes);
        template.size = template.payload_at + opt.text_bytes;
        template.masked = true;
        put_text(template.bytes + template.payload_at, opt.text_bytes);
        /* Where the moment is to stand nothing is masked yet. */
        mask(template.bytes + template.payload_at, STAMP_BYTES, opt.text_bytes - STAMP_BYTES);
    }
    return &template;
}

void on_bare_message(struct connection *connection, const uint8_t *payload, uint32_t bytes, uint64_t now)
{
    struct sender *sender = connection->sender;
    uint64_t stamp_ns = stamp_of((struct view){payload, bytes}, now);
    deliveries++;
    if (stamp_ns == 0) {
        violation("c%u got something else than was said", connection->index);
        return;
    }
    bool is_own = sender != NULL && sender->in_flight_count > 0 && sender->in_flight[sender->oldest].stamp_ns == stamp_ns;
    if (is_own)
        answered(sender);
    if (opt.task == ECHO && !is_own)
        violation("c%u got what it had not said, or not then", connection->index);
    if (opt.task == BROADCAST) {
        connection->accounted++;
        same_everywhere(connection->room, ++connection->last, stamp_ns);
    }
    record_latency(now - stamp_ns);
}
