# The map of the WebSocket encoders (RFC 6455, section 5).

cpdef bytes encode_header(int opcode, object length, bint fin=*, bint rsv1=*)
cpdef bytes encode_message(object message)
cpdef bytes encode_frame(int opcode, object payload, bint fin=*, bint rsv1=*)
cpdef bytes encode_masked(int opcode, object payload, bint fin=*, bint rsv1=*, object key=*)
cpdef bytes encode_close(object code, str reason=*)
