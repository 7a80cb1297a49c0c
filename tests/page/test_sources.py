"""What the page's files may not hold, whatever it does when it runs."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest

FILES = {file.name: file.read_text("utf-8") for file in files("chatproto.page").iterdir() if file.is_file()}
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".js")}

# What makes HTML or code of a text.
_DANGEROUS = re.compile(
    r"\b(innerHTML|outerHTML|insertAdjacentHTML|setHTMLUnsafe|document\.write|createContextualFragment|DOMParser"
    r"|srcdoc|eval|Function)\b|javascript:|setAttribute\(\s*['\"`](on|style)|setTimeout\(\s*['\"`]"
)

_ELSEWHERE = re.compile(r"(?:https?|wss?)://(?!www\.w3\.org/2000/svg|chat\.example/chat|HOST/chat)[\w.-]+")


class Elements(HTMLParser):
    """Every element of a document with its attributes, and the text within script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self._within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._within = tag

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within in ("script", "style"):
            self.inline += data


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_makes_neither_html_nor_code_of_text(name: str) -> None:
    assert _DANGEROUS.findall(SCRIPTS[name]) == []


@pytest.mark.parametrize(
    "line", ["row.innerHTML = text", "eval(text)", 'row.setAttribute("onclick", text)', "new Function(text)"]
)
def test_it_would_be_found(line: str) -> None:
    assert _DANGEROUS.search(line)


@pytest.mark.parametrize("name", FILES)
def test_nothing_comes_from_another_host(name: str) -> None:
    assert _ELSEWHERE.findall(FILES[name]) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_script_imports_is_there(name: str) -> None:
    imported = re.findall(r"""^(?:import|export)\b[^"]*?\bfrom "(.+?)"$""", SCRIPTS[name], re.MULTILINE)
    assert [other for other in imported if other.removeprefix("./") not in SCRIPTS] == []
    code = re.sub(r"/\*.*?\*/", "", SCRIPTS[name], flags=re.DOTALL)
    assert len(imported) == len(re.findall(r"^import\b", code, re.MULTILINE))


def test_what_others_may_use_depends_on_nothing() -> None:
    assert not re.search(r"^import\b", SCRIPTS["chat.js"], re.MULTILINE)


class TestIndex:
    page = Elements(FILES["index.html"])

    def test_has_no_inline_script_or_style(self) -> None:
        assert self.page.inline.strip() == ""
        for _, attributes in self.page.elements:
            assert not [name for name in attributes if name.startswith("on") or name == "style"]

    def test_has_only_relative_addresses_of_files_that_are_there(self) -> None:
        addresses = [
            attributes[name]
            for _, attributes in self.page.elements
            for name in ("src", "href", "action")
            if name in attributes
        ]
        assert len(addresses) >= 4
        assert [address for address in addresses if address not in FILES] == []

    def test_has_what_the_scripts_ask_for(self) -> None:
        ids = [attributes["id"] for _, attributes in self.page.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        asked = {
            name
            for text in SCRIPTS.values()
            for name in re.findall(r"""(?:getElementById|\bat)\("([\w-]+)"\)""", text)
        }
        assert asked
        assert asked <= set(ids)


def test_the_style_asks_only_for_files_that_are_there() -> None:
    asked = re.findall(r'url\("?([^")]+)"?\)', FILES["page.css"])
    assert asked
    assert [name for name in asked if name not in FILES] == []
