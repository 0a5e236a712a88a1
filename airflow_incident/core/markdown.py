"""Markdown that no text can break out of: spans, links, blocks, lists, and a cut that leaves none open."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SUMMARY_LENGTH = 8000
MESSAGE_LENGTH = 500
LONGEST_URL = 1000

_MARKDOWN = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]<>#|~!&"})
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
_MARKS = re.compile("`{9,}")
_ADDRESS = re.compile(r"(?:https?://|mailto:)[^\s<>]+", re.IGNORECASE)
_ENCODED = str.maketrans({mark: f"%{ord(mark):02X}" for mark in '()\\`|"*'})


def plain(text: str) -> str:
    """Leave out what is no text: colours, control characters, changes of direction, half of a surrogate pair.

    A long row of backticks, which would need a longer one on both sides, is cut.
    """
    return _MARKS.sub("`" * 8, _CONTROLS.sub("", text.encode("utf-8", "replace").decode()))


def shorten(text: str, length: int) -> str:
    """Cut a text that is too long, and say so with an ellipsis."""
    text = text.encode("utf-8", "replace").decode()  # a lone surrogate cannot travel as JSON
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def ending_of(text: str, length: int) -> str:
    """Keep the last lines of a text, and say so with an ellipsis."""
    text = plain(text).rstrip()
    return text if len(text) <= length else "…" + text[1 - length :]


def escape(text: str) -> str:
    """Keep ids and messages from being read as markdown, mentions or several lines."""
    return " ".join(plain(text).split()).translate(_MARKDOWN)


def code(text: str) -> str:
    """Write a code span that the text cannot end."""
    text = " ".join(shorten(plain(text), MESSAGE_LENGTH).split()) or " "
    ticks = "`"
    while ticks in text:
        ticks += "`"
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def fence(text: str) -> str:
    """Write a code block that the text cannot end."""
    text, ticks = plain(text), "```"
    while ticks in text:
        ticks += "`"
    return f"{ticks}\n{text.rstrip()}\n{ticks}"


def list_of(name: str, items: Iterable[str]) -> str:
    """Write a list under its name, without what is empty; nothing at all if all of it is."""
    lines = "".join(f"\n- {item}" for item in items if item)
    return f"**{name}:**{lines}" if lines else ""


def link(text: str, url: str | None) -> str:
    """Write a markdown link, or the text alone where there is no address."""
    there = address(url)
    return f"[{escape(text)}]({there})" if there else code(text)


def address(url: str | None) -> str:
    """Return an address that a link may lead to, with no mark in it that would end the link; empty if it is none."""
    text = (url or "").strip()
    return plain(text).translate(_ENCODED) if len(text) <= LONGEST_URL and _ADDRESS.fullmatch(text) else ""


def cut(text: str, length: int = SUMMARY_LENGTH) -> str:
    """Cut a text that is too long at the end of a line, and close the code block that is open there."""
    if len(text) <= length:
        return text
    kept, size, opened = [], len("\n…"), ""
    for line, inside in lines_of(text):
        room = length - size - len(inside) - len("\n")
        if len(line) >= room:
            kept += [shorten(line, room)] if room > 1 and len(line) > MESSAGE_LENGTH else []
            break
        kept.append(line)
        size, opened = size + len(line) + len("\n"), inside
    return "\n".join([*kept, *filter(None, [opened]), "…"])


def lines_of(text: str) -> Iterator[tuple[str, str]]:
    """Yield each line with the marks of the code block that it is in."""
    inside = ""
    for line in text.split("\n"):
        marks = line[: len(line) - len(line.lstrip("`"))]
        if inside and line.rstrip() == inside:
            inside = ""
        elif not inside and len(marks) >= len("```") and "`" not in line[len(marks) :]:
            inside = marks
        yield line, inside
