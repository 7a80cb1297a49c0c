from collections.abc import Callable
from typing import Any, final

from chatproto.rooms.log import NotStored, Receipt
from chatproto.wire.messages import Chat

__all__ = ["Numbers", "Said", "give_numbers", "recognise"]

@final
class Said:
    @property
    def room(self) -> str: ...
    @property
    def nick(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def id(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def sender(self) -> int: ...
    @property
    def time_ms(self) -> int: ...
    @property
    def answer(self) -> Any: ...
    @property
    def cost_bytes(self) -> int: ...
    @property
    def handle(self) -> tuple[str, int]: ...
    @property
    def receipt(self) -> Receipt | None: ...
    def __init__(
        self,
        room: str,
        nick: str,
        key: str,
        id: int,
        text: str,
        sender: int,
        time_ms: int,
        answer: object,
        cost_bytes: int,
    ) -> None: ...

@final
class Numbers:
    number: int
    newest: int
    removed: int
    def __init__(self, number: int, newest: int, removed: int) -> None: ...

def recognise(
    batch: list[Said],
    newest: dict[tuple[str, int], Receipt],
    free: dict[str, tuple[int, int]],
    remember_ms: int,
) -> tuple[dict[tuple[str, int], Receipt], list[tuple[str, int]]]: ...
def give_numbers(
    batch: list[Said],
    known: dict[tuple[str, int], Receipt],
    fresh: dict[tuple[str, int], Receipt],
    rooms: dict[str, Numbers],
    find: Callable[[str], Numbers],
) -> tuple[list[Chat | Receipt | NotStored], list[Any]]: ...
