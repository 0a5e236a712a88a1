"""Where a value begins and ends that stands at a place of a text: in quotation marks of any kind, or without."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

QUOTE = r"""(?:\\{0,15}["'`]|&quot;|&apos;|&\#0?3[49];|&\#x2[27];|\\{1,15}u002[27]|%2[27]|[“”‘’„])"""
"""A quotation mark, also one that is escaped, however often, or written as an entity or for a URL."""
_CLOSES = {"“": "”", "„": "“", "‘": "’"}
PREFIX = r"(?:[bruf]{1,2}|n|string\(\d{1,6}\)[ ])?"
BEGIN = rf"{PREFIX}{QUOTE}"
END = r"(?:[\s,;)\]}]|\Z)"
"""What follows a value."""

_BARE = r"""(?x) (?:
      [^\s,;&()\[\]{}'"`\\<>“”‘’\x1b]
    | [,;](?!\s|\Z|["'\[{(\\]|[\w.][\w.\- ]{0,40}[=:])
    | &(?!amp;|quot;|apos;|lt;|gt;|\#|[\w.%-]{1,60}=)
    | [)\]}](?![\s,;:.)\]}'"`\\]|\Z)
    | ['"`](?![\s,;:)\]}>]|\Z)
    | [(\[{>]
    | <(?!/)
    | \\(?!x1b|u001b|033|[nrt](?!\w)|[nrt][a-z_.-]{1,40}[ ]?[=:]|\\{0,15}["'`](?:[\s,;:)\]}]|\Z))
    )++"""
"""A value without quotation marks ends where something else begins, not at each mark that a password may have."""
ENCODED = r"""(?:[^\s%&"'<>]|%(?!2[267c]|7d|0a|0d))++"""
"""A value in a part of a URL that is encoded."""
_HOLDER = rf"(?:\$?\{{+[^{{}}\n]{{0,80}}\}}+|<[^<>\n]{{1,80}}>)(?={END}|['\"])"
"""What stands for a value and has marks itself."""
_SHELL_MARK = r"""\"'\"|'\"'|\\['\"]"""
"""How a shell is given a quotation mark inside of others."""
_WINDOW = 4096
"""Characters in which a quotation is looked for its end."""
_MOST_PIECES = 50


class Source(NamedTuple):
    """A text, and the same in small, plain letters, where everything is searched for."""

    text: str
    folded: str

    def match(self, pattern: str, at: int) -> re.Match[str] | None:
        """Match a pattern at a place."""
        return compiled(pattern).match(self.folded, at)

    def matches_before(self, pattern: str, at: int, reach: int = 12) -> bool:
        """Return whether the text before a place ends so."""
        return compiled(pattern).search(self.folded[max(0, at - reach) : at]) is not None


class Value(NamedTuple):
    """What stands from `start` to `end`; with its quotation mark it ends at `after`."""

    start: int
    end: int
    after: int
    is_quoted: bool


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern once."""
    return re.compile(pattern)


def read_value(source: Source, at: int) -> Value | None:
    """Read one value: in quotation marks, or up to where something else begins."""
    opened = source.match(rf"{PREFIX}(?P<quote>{QUOTE})", at)
    if not opened:
        return bare_value(source, at)
    start, mark = opened.end(), _CLOSES.get(opened["quote"], opened["quote"])
    if stars := source.match(r"\*{3}(?!\w)", start):  # what was redacted before may have lost its end
        is_closed = source.text.startswith(mark, stars.end())
        return Value(start, stars.end(), stars.end() + len(mark) * is_closed, is_quoted=True)
    if mark == '"' and source.match(r'"\w', start):  # doubled, as in a table of CSV
        start, mark = start + 1, '""'
    if (end := _closing(source, mark, start)) is None:
        line = source.match(r"[^\n]*+", start)
        # Cut; or it is a mark that ends what began before.
        stop = start if line is None or source.match(END, start) else line.end()
        return Value(start, stop, stop, is_quoted=True)
    value = Value(start, end, end + len(mark), is_quoted=True)
    return _joined(source, value) if mark in {"'", '"'} else value


def quoted_value(source: Source, mark: str, start: int) -> Value | None:
    """Read a value up to a quotation mark that was opened before it, on this line."""
    line = source.folded.find("\n", start, start + _WINDOW)
    end = _mark(source, mark, start, line if line >= 0 else min(len(source.folded), start + _WINDOW))
    return None if end is None or end == start else Value(start, end, end + 1, is_quoted=False)


def _closing(source: Source, mark: str, start: int) -> int | None:
    """Find the end of a quotation: on its line, or on a later one if what follows looks like an end."""
    line = source.folded.find("\n", start, start + _WINDOW)
    stop = min(len(source.folded), start + _WINDOW)
    if line >= 0 and (end := _mark(source, mark, start, line)) is not None:
        return end
    end = _mark(source, mark, start, stop)
    if end is None or line < 0:
        return end
    inside = source.folded[start:end]
    is_end = source.match(END, end + len(mark)) and not inside[-1:].isspace()
    return end if is_end and not re.search(r'\bfile "|traceback|error:|\n\s*\n', inside) else None


def _mark(source: Source, mark: str, start: int, stop: int) -> int | None:
    """Find a quotation mark that is neither escaped nor doubled."""
    if mark in {'"', "'"}:
        inside = compiled(rf"(?s)(?:[^{mark}\\]|\\.|{mark}{mark})*+(?={mark})").match(source.folded, start, stop)
        if inside:
            return inside.end()
    end = source.folded.find(mark, start, stop)
    while end > start and mark[0] == "\\" and source.folded[end - 1] == "\\":
        end = source.folded.find(mark, end + 1, stop)
    return end if end >= start else None


def _joined(source: Source, value: Value) -> Value:
    """Go on where a shell does: `'it'"'"'s'` is one word; so is what somebody put into the marks that it has itself."""
    for _ in range(_MOST_PIECES):
        if source.match(r"\w", value.after):
            bare = bare_value(source, value.after)
            end = bare.end if bare else value.after
            is_closed = source.match(rf"['\"](?=:|{END})", end)
            value = Value(value.start, end, end + bool(is_closed), is_quoted=True)
            if is_closed:
                break
        if not (mark := source.match(_SHELL_MARK, value.after)):
            break
        opened = source.match(r"['\"]", mark.end())
        closed = _mark(source, opened[0], opened.end(), opened.end() + _WINDOW) if opened else None
        end, after = (mark.end(), mark.end()) if closed is None else (closed, closed + 1)
        value = Value(value.start, end, after, is_quoted=True)
    return value


def bare_value(source: Source, at: int, pattern: str = _BARE) -> Value | None:
    """Read a value that has no quotation marks; a mark at its end belongs to the sentence."""
    if holder := source.match(_HOLDER, at):
        return Value(at, holder.end(), holder.end(), is_quoted=False)
    found = source.match(pattern, at)
    if not found:
        return None
    end = found.end()
    if end - at > 1 and source.text[end - 1] in ".:," and source.match(r"\s|\Z", end):
        end -= 1
    return Value(at, end, end, is_quoted=False)
