"""How Sphinx makes the documentation: `sphinx-build -W docs build/docs`, with chatproto installed."""

from dataclasses import fields

from chatproto import Limits, __version__
from chatproto.limits import MOST, HistoryLimits, WebSocketLimits
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


myst_substitutions = {
    "limits": _limits(Limits),
    "history_limits": _limits(HistoryLimits),
    "websocket_limits": _limits(WebSocketLimits),
    "states": _states(),
}
