"""What a server is told to be: its file, the options beside it, and what comes of both.

An option counts for more than the file, and the file for more than the default.
"""

from __future__ import annotations

import json
import re
import textwrap
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from chatproto.limits import HistoryLimits, Limits
from chatproto.rooms.names import NameRefused, check_room
from chatproto.server.settings import GROUPS, SETTINGS, Setting
from chatproto.shared.address import without_secret

__all__ = [
    "Configuration",
    "ConfigurationRefused",
    "configure",
    "did_you_mean",
    "read_text",
    "shown",
    "template",
]

L = TypeVar("L", Limits, HistoryLimits)

COLUMNS = 100
"""The width of a file that is written."""

_BY_NAME = {setting.name: setting for setting in SETTINGS}
_SNAKE = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b")


class ConfigurationRefused(ValueError):
    """It cannot be meant; the text is one sentence that says where and what to write instead."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that a server is told: *values* of all settings, and for each the *source* that it has."""

    values: Mapping[str, Any]
    sources: Mapping[str, str]
    limits: Limits
    history_limits: HistoryLimits

    def called(self, name: str) -> str:
        """A setting as whoever gave it knows it: an option, or a key on a line of the file."""
        source = self.sources[name]
        return (
            _BY_NAME[name].option if source == "default" or source.startswith("--") else f"{source}: {name}"
        )

    def effective(self) -> str:
        """The values as a file of its own, each with where it comes from."""
        lines = [(f"{name} = {shown(value)}", self.sources[name]) for name, value in self.values.items()]
        width = min(40, max(len(line) for line, _ in lines))
        return "".join(f"{line:{width}}  # {source}\n" for line, source in lines)


def configure(given: Mapping[str, Any], path: Path | None = None) -> Configuration:
    """What the options *given* and the file make together. Raises ConfigurationRefused."""
    file = _File(path) if path is not None else None
    told: dict[str, Any] = {}
    for name, value in (file.told if file else {}).items():
        told[name] = _checked(name, value, file)
    for name, value in given.items():
        told[name] = _checked(name, value, None)
    sources = {}
    for setting in SETTINGS:
        if setting.name in given:
            sources[setting.name] = setting.option
        elif file is not None and setting.name in file.told:
            sources[setting.name] = file.place(setting.name)
        else:
            sources[setting.name] = "default"
    values = {setting.name: told.get(setting.name, setting.default) for setting in SETTINGS}
    try:
        limits, history_limits = _made(Limits, values), _made(HistoryLimits, values)
    except ValueError as refusal:
        # It is about several; each is named as whoever gave it knows it.
        named = _SNAKE.findall(str(refusal))
        place = next((sources[name] for name in named if file and name in file.told), "")
        as_options = sources.keys() if file is None else given.keys()
        sentence = _SNAKE.sub(lambda found: _called(found[0], as_options), str(refusal))
        raise ConfigurationRefused(f"{place}: {sentence}" if place else sentence) from None
    try:
        check_room(values["room"], limits.max_room_chars)
    except NameRefused as refusal:
        where = f"{sources['room']}: room" if "room" not in given and file else "--room"
        raise ConfigurationRefused(f"{where}: {refusal}") from None
    return Configuration(values, sources, limits, history_limits)


def read_text(setting: Setting, text: str) -> Any:
    """What *text*, as it stands behind an option, means. Raises ConfigurationRefused."""
    kind = type(setting.default)
    if kind not in (int, float):
        return text
    try:
        return kind(text)
    except ValueError:
        raise ConfigurationRefused(f"{setting.option} needs {setting.wanted}, not {text!r}") from None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about *name*, which is not *known*; empty if nothing is like it."""
    near = get_close_matches(name, list(known), 1, 0.6)
    return f"; did you mean {near[0]}?" if near else ""


def template(configuration: Configuration) -> str:
    """A file with every key, its unit, its default and the reason; what was given stands in it as given."""
    parts = [
        "# What `twistd chat --config FILE` reads. A key without # before it counts; what stands here with\n"
        "# one is the default. Every key is an option too: max_rooms is --max-rooms. SIGHUP has a running\n"
        "# server read the file again; what that does to each key is said with it.\n"
    ]
    for group in GROUPS:
        parts.append(f"\n# ---- {group} {'-' * (COLUMNS - len(group) - 8)}\n")
        for setting in SETTINGS:
            if setting.group == group:
                parts.append(_commented(setting, configuration))
    return "".join(parts)


def _commented(setting: Setting, configuration: Configuration) -> str:
    kind = setting.wanted
    if setting.wanted.endswith("number"):
        top = "" if setting.most >= 2**53 else f" to {setting.most:,}"
        kind += f" from {setting.least:,}{top}"
    words = (
        f"{_sentence(setting.meaning)} {_sentence(kind)} "
        f"Default {shown(setting.default)}: {setting.why}. Another value holds {setting.effect.value}."
    )
    comment = "".join(f"# {line}\n" for line in textwrap.wrap(words, COLUMNS - 2, break_on_hyphens=False))
    is_given = configuration.sources[setting.name] != "default"
    value = written(configuration.values[setting.name])
    return f"\n{comment}{'' if is_given else '#'}{setting.name} = {value}\n"


def _sentence(phrase: str) -> str:
    return f"{phrase[0].upper()}{phrase[1:]}."


class _File:
    """One file: what it tells, and on which line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._text = path.read_text("utf-8")
        except UnicodeDecodeError:
            raise ConfigurationRefused(f"{path}: it is not UTF-8") from None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ConfigurationRefused(f"{path} cannot be read: {reason}") from None
        try:
            self.told: dict[str, Any] = tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            reason = re.sub(r" \(at (line \d+), column (\d+)\)", "", str(error))
            found = re.search(r"\(at line (\d+)", str(error))
            line = found[1] if found else str(self._text.count("\n") + 1)
            raise ConfigurationRefused(f"{path}, line {line}: this is no TOML: {_lower(reason)}") from None
        for name, value in self.told.items():
            if name not in _BY_NAME:
                raise ConfigurationRefused(f"{self.place(name)}: {self._unknown(name, value)}")

    def place(self, name: str) -> str:
        """Where a key stands."""
        line = self._line(name)
        return f"{self.path}, line {line}" if line else f"{self.path}"

    def _unknown(self, name: str, value: Any) -> str:
        if isinstance(value, dict):
            return f"there are no tables here, and so no [{name}]; each key stands by itself"
        hint = did_you_mean(name.replace("-", "_"), _BY_NAME)
        return f"there is no {name!r}{hint or '; twistd chat --print-config writes all keys'}"

    def _line(self, name: str) -> int:
        """The number of the line of a key, or of the table of that name; 0 if it is not found.

        What looks like one may stand within a text of several lines. It is none unless what comes before it
        is a whole file by itself.
        """
        key = rf"(?:{re.escape(name)}|{re.escape(json.dumps(name, ensure_ascii=False))}|'{re.escape(name)}')"
        begins = re.compile(rf"\s*(?:\[+\s*{key}\s*[].]|{key}\s*[=.])")
        lines = self._text.split("\n")
        for number, line in enumerate(lines):
            if begins.match(line):
                try:
                    tomllib.loads("\n".join(lines[:number]))
                except tomllib.TOMLDecodeError:
                    continue
                return number + 1
        return 0


def _checked(name: str, value: Any, file: _File | None) -> Any:
    """*value* as the setting has it. Raises ConfigurationRefused."""
    setting = _BY_NAME[name]
    called = setting.option if file is None else f"{file.place(name)}: {name}"
    default = setting.default
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
            hint = f"; write {name} = [{shown(value)}]" if isinstance(value, str) else ""
            raise ConfigurationRefused(f"{called} needs {setting.wanted}, not {shown(value)}{hint}")
        value = tuple(value)
    elif isinstance(default, float) and type(value) is int:
        value = float(value)
    elif type(value) is not type(default):
        raise ConfigurationRefused(
            f"{called} needs {setting.wanted}, not {shown(value)}{_other_type(setting, value)}"
        )
    if isinstance(default, int | float) and not isinstance(default, bool):
        if not setting.least <= value <= setting.most:
            bound = f"at most {setting.most:,}" if value > setting.most else f"at least {setting.least:,}"
            raise ConfigurationRefused(f"{called} is {bound}, not {value:,}")
    elif isinstance(default, str | tuple):
        for text in value if isinstance(value, tuple) else (value,):
            if "\0" in text:
                raise ConfigurationRefused(f"{called} has a NUL in it; leave that out")
            try:
                if setting.check is not None:
                    setting.check(text)
            except ValueError as refusal:
                raise ConfigurationRefused(f"{called} {refusal}") from None
    return value


def _other_type(setting: Setting, value: Any) -> str:
    """How to write what was probably meant; empty if nobody knows."""
    default, meant = setting.default, ""
    if isinstance(default, bool):
        meant = {"true": "true", "yes": "true", "on": "true", "1": "true"}.get(str(value).lower(), "")
        meant = meant or {"false": "false", "no": "false", "off": "false", "0": "false"}.get(
            str(value).lower(), ""
        )
    elif isinstance(default, str):
        meant = json.dumps(str(value)) if isinstance(value, int | float) and value is not True else ""
    elif isinstance(value, str):
        try:
            meant = shown(type(default)(value))
        except ValueError:
            meant = ""
    elif isinstance(value, float) and value.is_integer():
        meant = str(int(value))
    return f"; write {setting.name} = {meant}" if meant else ""


def _made(kind: type[L], values: Mapping[str, Any]) -> L:
    return kind(**{known.name: values[known.name] for known in fields(kind)})


def _called(name: str, as_options: Iterable[str]) -> str:
    return _BY_NAME[name].option if name in as_options and name in _BY_NAME else name


def _lower(reason: str) -> str:
    return f"{reason[:1].lower()}{reason[1:]}" if reason[1:2].islower() else reason


def shown(value: Any) -> str:
    """*value* as a file has it, but for passwords in it."""
    return written(without_secret(value) if isinstance(value, str) else value)


def written(value: Any) -> str:
    """*value* as a file has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, dict):
        return "a table"
    return str(value)
