# What a frame is made of (RFC 6455, section 5.2). C only; the decoder and the encoders cimport it.

cdef enum:
    OP_CONTINUATION = 0x0
    OP_TEXT = 0x1
    OP_BINARY = 0x2
    OP_CLOSE = 0x8            # from here on: control frames
    OP_PING = 0x9
    OP_PONG = 0xA

cdef enum:                    # the two bytes that every frame begins with
    FIN = 0x80
    RSV1 = 0x40
    RSV2_RSV3 = 0x30
    OPCODE_BITS = 0x0F
    MASK = 0x80
    LENGTH_BITS = 0x7F

cdef enum:
    LENGTH_IN_2_BYTES = 126   # what the seven bits say where the length stands behind them
    LENGTH_IN_8_BYTES = 127
    MAX_CONTROL_BYTES = 125
    KEY_BYTES = 4
    MAX_HEADER_BYTES = 14


cdef inline bint is_opcode(int opcode) noexcept nogil:
    """Whether *opcode* is one that has a meaning; all others are reserved."""
    return OP_CONTINUATION <= opcode <= OP_BINARY or OP_CLOSE <= opcode <= OP_PONG
