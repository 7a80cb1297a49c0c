# The two loops that go over every byte of a payload: masking and UTF-8. C only; modules cimport them.

from libc.stdint cimport uint64_t
from libc.string cimport memcpy

cdef enum:
    STEP_BYTES = 8


cdef inline bint has_high_bit(uint64_t word) noexcept nogil:
    """Whether one of the eight bytes is not ASCII."""
    return word & <uint64_t>0x8080808080808080 != 0


# Where in a character a text stands that comes in pieces. All zeros: between two characters.
cdef struct Utf8:
    unsigned char missing     # how many bytes the character still needs
    unsigned char least       # what the next of them may be: from this
    unsigned char most        # to this


cdef inline bint masked(
    unsigned char* out, const unsigned char* at, Py_ssize_t size, const unsigned char* key, int offset
) noexcept nogil:
    """Write *size* bytes XORed with the four of *key*, beginning with its byte *offset*.

    Whether one of them has its high bit set. *out* and *at* do not overlap. The compiler makes vectors of the
    first loop.
    """
    cdef unsigned char[STEP_BYTES] pattern
    cdef uint64_t mask, word
    cdef uint64_t seen = 0
    cdef Py_ssize_t i
    cdef Py_ssize_t n_steps = size // STEP_BYTES
    for i in range(STEP_BYTES):
        pattern[i] = key[(offset + i) & 3]
    memcpy(&mask, pattern, STEP_BYTES)
    for i in range(n_steps):
        memcpy(&word, at + i * STEP_BYTES, STEP_BYTES)
        word ^= mask
        seen |= word
        memcpy(out + i * STEP_BYTES, &word, STEP_BYTES)
    for i in range(n_steps * STEP_BYTES, size):
        out[i] = at[i] ^ pattern[i & 7]
        seen |= <uint64_t>out[i]
    return has_high_bit(seen)


cdef inline Py_ssize_t ascii_bytes(const unsigned char* at, Py_ssize_t size) noexcept nogil:
    """How many whole steps of 8 bytes at the beginning are ASCII, in bytes."""
    cdef uint64_t word
    cdef Py_ssize_t passed = 0
    while size - passed >= STEP_BYTES:
        memcpy(&word, at + passed, STEP_BYTES)
        if has_high_bit(word):
            break
        passed += STEP_BYTES
    return passed


cdef inline bint continues(unsigned char byte) noexcept nogil:
    return byte & 0xC0 == 0x80


cdef inline Py_ssize_t character_bytes(const unsigned char* at, Py_ssize_t size) noexcept nogil:
    """How long the character of two or three bytes is that lies here; 0 leaves it to `begun` to see."""
    cdef unsigned char lead = at[0]
    if size < 3:
        return 0
    if 0xC2 <= lead <= 0xDF:
        return 2 if continues(at[1]) else 0
    if 0xE1 <= lead <= 0xEF and lead != 0xED:
        return 3 if continues(at[1]) and continues(at[2]) else 0
    return 0


cdef inline bint begun(Utf8* state, unsigned char lead) noexcept nogil:
    """Expect what may follow *lead*, which is not ASCII; False if no character begins so."""
    state.least = 0x80
    state.most = 0xBF
    if lead < 0xC2:  # a continuation of nothing, or two bytes for what one can say
        return False
    elif lead < 0xE0:
        state.missing = 1
    elif lead < 0xF0:
        state.missing = 2
        if lead == 0xE0:  # three bytes for what two can say
            state.least = 0xA0
        elif lead == 0xED:  # half a surrogate pair
            state.most = 0x9F
    elif lead < 0xF5:
        state.missing = 3
        if lead == 0xF0:  # four bytes for what three can say
            state.least = 0x90
        elif lead == 0xF4:  # beyond U+10FFFF
            state.most = 0x8F
    else:
        return False
    return True


cdef inline bint is_utf8(Utf8* state, const unsigned char* at, Py_ssize_t size) noexcept nogil:
    """False if *size* bytes more cannot be UTF-8 whatever comes behind them (RFC 3629, section 4).

    A character that has begun stays in *state*, for the next piece or for the end of the text to judge.
    """
    cdef const unsigned char* end = at + size
    cdef Py_ssize_t passed
    at += 0 if state.missing else ascii_bytes(at, size)
    while at != end:
        if state.missing:
            if not state.least <= at[0] <= state.most:
                return False
            state.missing -= 1
            state.least = 0x80
            state.most = 0xBF
            at += 1
        elif at[0] < 0x80:
            at += 1
            at += ascii_bytes(at, end - at)
        else:
            passed = character_bytes(at, end - at)
            if not passed:
                if not begun(state, at[0]):
                    return False
                passed = 1
            at += passed
    return True
