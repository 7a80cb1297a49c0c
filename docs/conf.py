"""How Sphinx makes the documentation: `sphinx-build -W docs build/docs`, with chatproto installed."""

from dataclasses import fields

from twisted.internet.task import Clock

from chatproto import ChatFactory, Hub, Limits, __version__
from chatproto.limits import MOST, HistoryLimits, WebSocketLimits
from chatproto.server.config import shown
from chatproto.server.delay import ReactorDelay
from chatproto.server.metrics import ChatCollector
from chatproto.server.settings import SETTINGS
from chatproto.wire.connection import TRANSITIONS

project = "chatproto"
author = "the chatproto maintainers"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.graphviz"]
graphviz_output_format = "svg"
html_theme = "furo"
html_title = f"chatproto {release}"
exclude_patterns = ["_build"]

default_role = "code"
autodoc_member_order = "bysource"
autodoc_type_aliases = {name: name for name in ("IReactorTime", "IStreamClientEndpoint")}
add_module_names = False

myst_enable_extensions = ["substitution"]
myst_heading_anchors = 3


def _limits(kind: type) -> str:
    """What each limit of *kind* bounds, as a table; the meaning stands in the code."""
    rows = ["| limit | default | range | what it bounds |", "| --- | --- | --- | --- |"]
    for known in fields(kind):
        least, most = known.metadata["least"], known.metadata["most"]
        limits = f"from {least:,}" if most == MOST else f"{least:,} to {most:,}"
        rows.append(f"| `{known.name}` | {known.default:,} | {limits} | {known.metadata['meaning']} |")
    return "\n".join(rows)


def _figures() -> str:
    """What `/metrics` has of the chat, as a table: from what it says of a chat in which nothing happened."""
    hub = Hub(Clock())
    rows = ["| figure | kind | labels | what it is |", "| --- | --- | --- | --- |"]
    for family in ChatCollector(hub, [ChatFactory(hub)], ReactorDelay(Clock())).collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = sorted({f"`{label}`" for sample in family.samples for label in sample.labels} - {"`le`"})
        rows.append(f"| `{name}` | {family.type} | {', '.join(labels)} | {family.documentation} |")
    return "\n".join(rows)


def _states() -> str:
    """The life of a WebSocket connection, drawn from its own table."""
    newline = r"\n"
    steps: dict[tuple[str, str], list[str]] = {}
    for (state, step), then in TRANSITIONS.items():
        if state is not then:
            steps.setdefault((state.value, then.value), []).append(step.value)
    arrows = [f'"{begin}" -> "{end}" [label="{newline.join(why)}"]' for (begin, end), why in steps.items()]
    lines = [
        "digraph states {",
        "node [shape=box, style=rounded]; edge [fontsize=10]",
        *arrows,
        "}",
    ]
    return "\n".join(["```{graphviz}", ":alt: the states of a connection", "", *lines, "```"])


def _settings() -> str:
    """Every setting of the server: what it is by default, and when another value holds."""
    rows = ["| key | default | another value holds | what it is |", "| --- | --- | --- | --- |"]
    for setting in SETTINGS:
        default = shown(setting.default)
        rows.append(f"| `{setting.name}` | `{default}` | {setting.effect.value} | {setting.meaning} |")
    return "\n".join(rows)


myst_substitutions = {
    "settings": _settings(),
    "limits": _limits(Limits),
    "history_limits": _limits(HistoryLimits),
    "websocket_limits": _limits(WebSocketLimits),
    "figures": _figures(),
    "states": _states(),
}
