__all__ = ["encode_close", "encode_frame", "encode_header", "encode_masked"]

def encode_header(opcode: int, length: int, fin: bool = True, rsv1: bool = False) -> bytes: ...
def encode_frame(
    opcode: int, payload: bytes | bytearray | memoryview, fin: bool = True, rsv1: bool = False
) -> bytes: ...
def encode_masked(
    opcode: int,
    payload: bytes | bytearray | memoryview,
    fin: bool = True,
    rsv1: bool = False,
    key: bytes | None = None,
) -> bytes: ...
def encode_close(code: int | None, reason: str = "") -> bytes: ...
