"""How Sphinx makes the documentation: `sphinx-build -W docs build/docs`, with chatproto installed."""

from dataclasses import fields

from chatproto import Limits, __version__
from chatproto.limits import MOST

project = "chatproto"
author = "the chatproto maintainers"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"chatproto {release}"
exclude_patterns = ["_build"]

default_role = "code"
autodoc_member_order = "bysource"
autodoc_type_aliases = {name: name for name in ("IReactorTime", "IStreamClientEndpoint")}
add_module_names = False

myst_enable_extensions = ["substitution"]
myst_heading_anchors = 3


def _limits() -> str:
    """What each limit bounds, as a table; the meaning stands in the code."""
    rows = ["| limit | default | range | what it bounds |", "| --- | --- | --- | --- |"]
    for known in fields(Limits):
        least, most = known.metadata["least"], known.metadata["most"]
        limits = f"from {least:,}" if most == MOST else f"{least:,} to {most:,}"
        rows.append(f"| `{known.name}` | {known.default:,} | {limits} | {known.metadata['meaning']} |")
    return "\n".join(rows)


myst_substitutions = {"limits": _limits()}
