"""How a value is joined to the name of a secret: code, JSON, XML, a command line, a header, a sentence."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_incident.core.secret_values import (
    BEGIN,
    ENCODED,
    QUOTE,
    SCHEMES,
    Name,
    Source,
    Value,
    bare_value,
    compiled,
    is_lookup,
    is_no_secret,
    is_opaque,
    is_random,
    is_said,
    name_of,
    quoted_value,
    read_value,
    stands_in,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    Span = tuple[int, int]

_COLOUR = r"(?:(?:\x1b|\\{1,4}x1b|\\{1,4}u001b|\\{1,4}033|\\{1,4}e)\[[0-9;]{0,12}m)"

# Between a name and its value.
_SIGN = rf"""(?x)
    (?P<close>(?:{QUOTE}){{1,2}})? [ ]? \]? {_COLOUR}{{0,4}} [ \t]{{0,40}}
    (?: :[ ]?[a-z_][\w.]{{0,40}}(?:\[[^\]\n]{{0,60}}\])?(?:[ ]\|[ ]\w{{1,40}}){{0,3}}[ ](?==[ ]) )?  # a type
    (?P<sign> =>|:=|(?<=[ ])->(?=[ ])|→|[!=]==?|=|[:：＝](?!:|//)|%3[ad]|(?<=[ \t])[|│┃](?=[ \t]) )
    {_COLOUR}{{0,4}} (?:[ \t]|%20|\+(?=%2)){{0,40}} {_COLOUR}{{0,4}}"""
_FIELD = r"\b\w{0,24}?(?:value|val|default|plaintext|content)\b"
_LATER = rf"""(?x)
    (?:{QUOTE})?
    (?: \s{{0,40}}(?:,\s{{0,40}})?(?:{QUOTE})?{_FIELD}(?:{QUOTE})?[ ]{{0,4}}[:=][ ]{{0,4}}  # "name": "PW", "value": …
      | [ ]?\{{\s{{0,40}}(?:[^{{}}\n]{{0,80}}\n\s{{0,40}}){{0,4}}{_FIELD}[ ]{{0,8}}=[ ]{{0,8}}  # "pw" {{ default = …
      | [ ][^<>\n]{{0,120}}?\b(?:value|content)[ ]?=[ ]?(?={QUOTE})  # <add key="ApiKey" value=…
      | </[\w:.-]{{1,40}}>\s{{0,40}}(?:<(?:value|val|string|td|dd)\b[^<>]{{0,40}}>\s{{0,20}}){{1,2}}
      | (?:\r?\n|\\r\\n){{2}}  # a field of a form
      | \n[ \t]{{1,8}}[^\n]{{0,200}}?\binput_value= )  # what pydantic refuses"""
_IS = rf"(?:{QUOTE})?\s?[:=]\s?"
_NAMED_SO = rf"\b(?:name|key){_IS}{QUOTE}$"
_EARLIER = rf"{_FIELD}{_IS}(?P<value>{BEGIN}[^\n]{{1,200}}?),?\s{{0,40}}(?:{QUOTE})?(?:name|key){_IS}{QUOTE}$"
_OPTION = rf"{QUOTE}\s{{0,20}},\s{{0,20}}(?={BEGIN})|[ \t]{{1,20}}(?:\\\n[ \t]{{0,40}})?(?=[^\s|>#])"
_REFUSED = rf":[ ][a-z_ ]{{1,60}}:[ ](?={BEGIN})"
_PAIR = rf"{QUOTE}\s{{0,20}},\s{{0,20}}(?={BEGIN})"
_ELSE = rf"{QUOTE}[ ]?[\])](?:[ ](?:or|\|\||\?\?)[ ]|[ ]?\|[ ]?d(?:efault)?\([ ]?)(?={BEGIN})"
_TUPLE = rf",[ ]?(?:<<)?(?={BEGIN})"
_SAYS = (
    rf"(?:[ ](?:is|was|to|as|set[ ]to|value))?[ ]{{1,4}}(?={BEGIN})"
    rf"|(?:[ ](?:is|was)[ :])?(?:[ ]\(|[ \t]{{1,2}})(?!{BEGIN})(?=[^\s(])"
)
_PROMPTS = r"[ ](?:for|of)[ ][^\n:]{1,80}?(?::|[ ](?:is|was)):?[ ]{1,4}(?=\S)"
_PROVIDED = r"[ ](?:provided|supplied|given|used)[ ]?:[ ]{1,4}(?=\S)"
_CALL = rf"[ ]?\([ ]?(?={BEGIN})"
_TAG = r"[^<>&]{0,200}(?:>|&gt;)(?:<!\[cdata\[)?"
_NAMED = rf"{QUOTE}[^<>\n]{{0,100}}>(?=[^<>\n]{{1,400}}</)"
_SETS = r"(?:\bsetenv|(?:^|\n)(?:env|arg)|\b(?:configure|config) set|\bset -\w{1,3})[ ]$"
_IN_TAG = r"(?:<|&lt;)(?:[\w-]{1,20}:)?$"
_IN_PAIR = rf"(?:^|[\[(,\s])\(\s?{BEGIN}$|[\[,]\s?\[\s?{BEGIN}$|\b\w*(?:put|set|define)\w*\({BEGIN}$"
_BELOW = r"(?P<block>[|>][+-]?)?[ \t]{0,20}\r?\n(?P<indent>[ \t]{0,80})(?=\S)"

_WRAPPED = rf"(?P<call>[a-z_][\w.]{{0,60}})\(\s{{0,4}}(?={BEGIN})"
_DEFAULT = rf"{QUOTE}[\w.:/-]{{1,80}}{QUOTE}\s{{0,4}},\s{{0,4}}(?:default[ ]?=[ ]?)?(?={BEGIN})"
_CODE = r"[a-z_][\w.]{0,60}(?:\((?:[^()\n\"']{0,80}\([^()\n\"']{0,80}\)){0,4}[^()\n\"']{0,80}\)|\[[^\]\n]{0,80}\])"
_ELEMENT = r"(?:(?!\]\]>)[^<]){1,4000}+"
_ESCAPED_ELEMENT = r"(?:(?!&lt;)[^<]){1,4000}+"
_IN_DICT = rf"\s{{0,40}},?\s{{0,40}}{BEGIN}[^'\"\n]{{1,80}}{QUOTE}\s{{0,4}}:\s{{0,4}}(?={BEGIN})"
_PARAMETERS = r"""(?:[\w-]{1,40}=(?:"[^"\n]{0,400}"|[^\s,;"]{0,400})[,;]?[ ]{0,2})++"""
_COOKIES = r"""(?:[^\s=;,"']{1,100}=[^\s;"']{0,4000}+;?[ ]?)++(?:[\w-]{1,20}+(?=;|$))?"""
_TAGGED = r"(?:(?:&|!{1,2})[a-z][\w/.-]{0,40}[ ]{1,4}){1,2}(?=\S)"
_BRACES = (
    r"\{(?!(?:[a-z_.]{1,80}(?:![rsa])?|[^{}\n]{0,200}(?::[ ]|[ ]for[ ])[^{}\n]{0,200})\})"  # of code, that is
    r"([^'\"\n{}]{1,200})\}"
)
_OBJECTS = frozenset(
    {"self", "cls", "args", "kwargs", "request", "conn", "config", "settings", "options", "os", "context"}
)
"""What has attributes in a line of code."""
_MOST_ITEMS = 1000
_LONGEST_NAME = 120
_SHORT_NUMBER = 4
"""Digits of a number that is no token."""


def secrets_of(source: Source, name: Name) -> Sequence[Span]:
    """Find the secrets that stand behind a name."""
    if name.is_bare:
        return _of_bare(source, name)
    if name.is_secret or name.is_weak or name.is_header or name.is_cookie:
        for link in (
            _refused,
            _assigned,
            _later,
            _of_option,
            _of_element,
            _of_pair,
            _prompted,
            _said,
            _called,
            _earlier,
        ):
            if (spans := link(source, name)) is not None:
                return spans
    return ()


def _of_bare(source: Source, name: Name) -> Sequence[Span]:
    """`?key=…`, `--key …`, `key='…'`: where it is no word, no path and no id."""
    found = source.match(_OPTION if name.is_option else _SIGN, name.end)
    is_query = source.matches_before(r"[?&]$", name.start)
    is_place = name.is_option or is_query or source.matches_before("[(, ]$", name.start)
    value = read_value(source, found.end()) if found and is_place else None
    if value is None or (not is_query and re.search("[/.]", source.text[value.start : value.end])):
        return ()
    return _random(source, [(value.start, value.end)])


def _refused(source: Source, name: Name) -> Sequence[Span] | None:
    """`argument --password: invalid choice: '…'`."""
    found = source.match(_REFUSED, name.end) if name.is_option else None
    return _secret(source, name, read_value(source, found.end())) if found else None


def _assigned(source: Source, name: Name) -> Sequence[Span] | None:
    """`password=…`, `"password": "…"`, `os.environ["DB_PASS"] = …`, `password: str = …`."""
    found = source.match(_SIGN, name.end)
    if not found:
        return None
    at, sign = found.end(), found["sign"]
    if _is_something_else(source, name, found) or (not found["close"] and _closes_here(source, at)):
        return ()
    if name.is_cookie or name.is_header:
        return (_cookies if name.is_cookie else _credentials)(source, name, at)
    if sign[0] == "%":
        quote = source.match("%2[27]", at)
        return _secret(source, name, bare_value(source, quote.end() if quote else at, ENCODED))
    if sign in {":", "=", "=>"} and (below := source.match(_BELOW, at)):
        return _below(source, name, below)
    spans = _values(source, name, at, doubtful=_is_doubtful(source, name, found))
    return _opaque(source, spans) if sign in {"|", "│", "┃", "==", "!=", "===", "!=="} else spans


def _is_doubtful(source: Source, name: Name, found: re.Match[str]) -> bool:
    """Return whether a colon follows a scope like `token:read`, or something that a message complains of."""
    is_scope = found[0] == ":" and not name.is_password and not source.match(BEGIN, found.end())
    return is_scope or (name.is_complained_of and found["sign"] in ":：")


def _later(source: Source, name: Name) -> Sequence[Span] | None:
    """`{"name": "DB_PASSWORD", "value": "…"}`, and others that come to the value by a detour."""
    found = source.match(_LATER, name.end)
    if not found and source.matches_before(_NAMED_SO, name.start):
        found = source.match(_NAMED, name.end)
    if found and found[0].endswith(">"):
        return _element(source, name, found.end())
    return _values(source, name, found.end(), doubtful=name.is_complained_of) if found else None


def _earlier(source: Source, name: Name) -> Sequence[Span] | None:
    """`{"value": "…", "name": "DB_PASSWORD"}`."""
    least = max(0, name.start - 300)
    if not source.matches_before(_NAMED_SO, name.start):
        return None
    found = compiled(_EARLIER).search(source.folded[least : name.start])
    return _secret(source, name, read_value(source, least + found.start("value"))) if found else None


def _of_option(source: Source, name: Name) -> Sequence[Span] | None:
    """`--password …`, also as items of a list."""
    is_option = name.is_option or source.matches_before(_SETS, name.start, 24)
    found = source.match(_OPTION, name.end) if is_option else None
    if not found:
        return None
    value = read_value(source, found.end())
    if value is None or source.text.startswith("-", value.start):
        return ()
    return _secret(source, name, value)


def _of_element(source: Source, name: Name) -> Sequence[Span] | None:
    """`<password>…</password>`."""
    found = source.match(_TAG, name.end) if source.matches_before(_IN_TAG, name.start, 26) else None
    return _element(source, name, found.end()) if found else None


def _element(source: Source, name: Name, at: int) -> Sequence[Span]:
    is_escaped = source.text.endswith(";", 0, at)  # &lt;password&gt;
    value = source.match(_ESCAPED_ELEMENT if is_escaped else _ELEMENT, at)
    spans = _secret(source, name, Value(*value.span(), value.end(), is_quoted=True)) if value else ()
    return spans if value and value.end() < len(source.text) else _opaque(source, spans)


def _of_pair(source: Source, name: Name) -> Sequence[Span] | None:
    """`('password', '…')`, `{password, "…"}`."""
    if source.matches_before(r"\{$", name.start) and (found := source.match(_TUPLE, name.end)):
        return _secret(source, name, read_value(source, found.end()))
    if found := source.match(_ELSE, name.end):
        return _secret(source, name, read_value(source, found.end()))
    found = source.match(_PAIR, name.end)
    value = read_value(source, found.end()) if found else None
    if value is None:
        return None
    if not source.match(r"\s{0,20},?\s{0,20}[)\]]", value.after):
        return ()
    spans = _secret(source, name, value)
    if source.matches_before(_IN_PAIR, name.start):
        is_word = source.match(r"[a-z_]+['\"]", value.start)
        is_name = name_of(source.text[value.start : value.end]).is_secret
        return () if is_word and (is_name or not name.is_password) else spans
    is_call = source.matches_before(rf"\w\({BEGIN}$", name.start)
    return _opaque(source, spans) if is_call else _random(source, spans)


def _said(source: Source, name: Name) -> Sequence[Span] | None:
    """`PASSWORD '…'`, `the password is …`."""
    found = source.match(_SAYS, name.end) if name.parts[-1] != "pass" else None
    if not found:
        return None
    value = read_value(source, found.end())
    spans = _secret(source, name, value)
    if value and value.is_quoted:
        return spans if name.is_password else _opaque(source, spans)
    is_line = (
        source.matches_before(r"(?:\n|^)[ \t]*$", name.start, 80)
        and value
        and source.match(r"\s*(?:\n|\Z)", value.after)
    )
    return _opaque(source, spans) if name.is_password or is_line else _random(source, spans)


def _prompted(source: Source, name: Name) -> Sequence[Span] | None:
    """`Password for etl: …`, `Invalid API key provided: …`."""
    found = source.match(_PROMPTS, name.end) if name.is_password else None
    found = found or source.match(_PROVIDED, name.end)
    return _opaque(source, _secret(source, name, read_value(source, found.end()))) if found else None


def _called(source: Source, name: Name) -> Sequence[Span] | None:
    """`set_password("…")`."""
    found = source.match(_CALL, name.end)
    function = name_of(name.written.rpartition(".")[2])
    if not found or is_lookup(name.written) or name.is_complained_of or not function.is_secret:
        return None
    spans = _items(source, name, found.end())
    return spans if name.is_password or name.parts[0] == "set" else _opaque(source, spans)


def _values(source: Source, name: Name, at: int, *, doubtful: bool = False) -> Sequence[Span]:
    """Read what stands at a place: one value, the items of a list, or those of a dictionary."""
    first = source.folded[at : at + 1]
    if first in {"[", "("} and (inner := source.match(r"[\[(]\s{0,40}", at)):
        return _items(source, name, inner.end())
    if first == "{":
        return _braced(source, name, at)
    if wrapped := source.match(_WRAPPED, at):
        at = wrapped.end()
        # What a function makes of a word is seldom the secret of a token.
        doubtful = doubtful or not (name.is_password or "secret" in wrapped["call"])
        if is_lookup(wrapped["call"]):
            default = source.match(_DEFAULT, at)
            if not default or source.match(rf"{BEGIN}[a-z_]*{QUOTE}", default.end()):
                return ()  # conf.get("smtp", "smtp_password")
            at = default.end()
    tagged = source.match(_TAGGED, at)  # of YAML
    value = _enclosed(source, name, at) or read_value(source, tagged.end() if tagged else at)
    spans = _secret(source, name, value, doubtful=doubtful)
    if value and tagged and spans:
        return [(at, value.end)]
    if value and value.is_quoted and (changed := source.match(rf"[ ]?(?:->|=>|→)[ ]?(?={BEGIN})", value.after)):
        return (*spans, *_secret(source, name, read_value(source, changed.end())))
    return spans


def _enclosed(source: Source, name: Name, at: int) -> Value | None:
    """Read a value that shares its quotation marks with its name, like `'--password=…'`, and nothing else does."""
    mark = source.text[name.start - 1 : name.start]
    if not mark or mark not in "'\"" or source.text[at - 1] != "=":
        return None
    value = quoted_value(source, mark, at)
    return None if value is None or re.search(r"[\s;,&][\w.-]+=", source.text[at : value.end]) else value


def _items(source: Source, name: Name, at: int) -> Sequence[Span]:
    """Read the texts of a list; of a user and a password only the latter."""
    spans: list[Span] = []
    if not source.match(BEGIN, at):
        bare = source.match(r"[^\s\[\](){}'\",]{1,200}(?=[\])])", at)
        return _opaque(source, [bare.span()]) if bare else ()
    for _ in range(_MOST_ITEMS):
        value = read_value(source, at)
        if value is None or not value.is_quoted:
            break
        spans += _secret(source, name, value, is_item=True)
        following = source.match(rf"\s{{0,20}},\s{{0,40}}(?={BEGIN})", value.after)
        if not following:
            break
        at = following.end()
    if name.is_weak:
        return spans[-1:] if len(spans) > 1 else ()
    return _opaque(source, spans) if name.parts[-1] == "tokens" else spans


def _braced(source: Source, name: Name, at: int) -> Sequence[Span]:
    """Read `{…}` of ODBC, or the values of a dictionary of secrets."""
    if inner := source.match(_BRACES, at):
        return _secret(source, name, Value(*inner.span(1), inner.end(), is_quoted=False))
    if nested := source.match(
        rf"\{{\s{{0,40}}(?:[^{{}}\n]{{1,120}},\s{{0,40}})?(?:{QUOTE})?{_FIELD}{_IS}(?={BEGIN})", at
    ):
        return _secret(source, name, read_value(source, nested.end()))
    if not (name.is_cookie or name.parts[-1].endswith("s")):
        return ()
    spans: list[Span] = []
    at += 1
    for _ in range(_MOST_ITEMS):
        item = source.match(_IN_DICT, at)
        value = read_value(source, item.end()) if item else None
        if value is None:
            break
        spans += _secret(source, name, value)
        at = value.after
    return spans


def _below(source: Source, name: Name, below: re.Match[str]) -> Sequence[Span]:
    """Read a value that stands on the next line alone, a list of such, or a block of lines."""
    at, indent = below.end(), below["indent"]
    if below["block"] and indent:
        lines = source.match(rf"[^\n]*+(?:\n{indent}[^\n]*+)*+", at)
        return [lines.span()] if lines else ()
    if item := source.match(r"(?:secure|value|default|plaintext):[ ]{1,4}", at):
        at = item.end()
    spans: list[Span] = []
    for _ in range(_MOST_ITEMS):
        item = source.match(r"-[ ]{1,4}", at)
        value = read_value(source, item.end() if item else at)
        if value is None or not source.match(r"[ \t]{0,20},?[ \t\r]{0,20}(?:\n|\Z)", value.after):
            break
        found = _secret(source, name, value)
        is_sure = any(letter.isalnum() for letter in source.text[value.start : value.end]) and (
            indent or value.is_quoted
        )
        spans += found if is_sure else _opaque(source, found)
        following = source.match(r"[ \t\r]{0,20}\n[ \t]{0,80}(?=-[ ])", value.after) if item else None
        if not following:
            break
        at = following.end()
    return spans


def _cookies(source: Source, name: Name, at: int) -> Sequence[Span]:
    if source.folded[at : at + 1] == "{":
        return _braced(source, name, at)
    if source.match(BEGIN, at):
        value = read_value(source, at)
        return [(value.start, value.end)] if value and "=" in source.text[value.start : value.end] else ()
    listed = source.match(_COOKIES, at)
    return [listed.span()] if listed else ()


def _credentials(source: Source, name: Name, at: int) -> Sequence[Span]:
    """Read the value of an Authorization header: what follows its scheme, to the end."""
    if source.match(BEGIN, at):
        value = read_value(source, at)
        return _without_scheme(source, value) if value else ()
    first = bare_value(source, at)
    if first is None:
        return ()
    word = source.text[first.start : first.end]
    if _is_code(source, name, first, word) or not word[0].isalnum():
        return ()
    gap = source.match(r"[ ]{1,4}(?=[^\s:]+(?![^\s]))", first.after)
    second = bare_value(source, gap.end()) if gap else None
    is_scheme = word.lower() in SCHEMES
    if second is None or not (is_scheme or is_opaque(source.text[second.start : second.end])):
        return () if is_no_secret(word) else [(first.start, first.end)]
    if is_no_secret(source.text[second.start : second.end]):
        return ()
    listed = source.match(_PARAMETERS, second.start) if is_scheme else None
    end = max(second.end, listed.end() if listed else 0)
    start = second.start if is_scheme or word.isalpha() else first.start
    return [(start, start + len(source.text[start:end].rstrip()))]


def _without_scheme(source: Source, value: Value) -> Sequence[Span]:
    scheme = source.match(r"[a-z][a-z0-9-]{0,30}[ ]{1,4}(?=\S)", value.start)
    start = scheme.end() if scheme and scheme.end() < value.end else value.start
    text = source.text[start : value.end]
    is_none = stands_in(text) or text.strip().lower() in SCHEMES or is_said(source.text[value.start : value.end])
    return () if is_none else [(start, value.end)]


def _secret(
    source: Source, name: Name, value: Value | None, *, doubtful: bool = False, is_item: bool = False
) -> Sequence[Span]:
    """Return whether a value is a secret: not a word of a message, nor what stands for one, nor code that gets it."""
    text = source.text[value.start : value.end].strip(" `'\"") if value else ""
    if value is None or len(text) <= 1 or is_no_secret(text) or _is_name(name, text):
        return ()
    if name.is_header:
        return _without_scheme(source, value)
    if not value.is_quoted and (_is_code(source, name, value, text) or _is_count(name, text)):
        return ()
    if not is_item and (doubtful or name.is_weak) and not is_opaque(text):
        return ()
    if text.lower().partition(" ")[0] in {"basic", "bearer"}:
        return _credentials(source, name, value.start) if not value.is_quoted else _without_scheme(source, value)
    return [(value.start, value.end)]


def _is_name(name: Name, text: str) -> bool:
    """Return whether a value is the name again, or the name of another secret, like `"AZURE_CLIENT_SECRET"`."""
    if len(text) > _LONGEST_NAME:
        return False
    if text.lower() == name.written.lower():
        return True
    other = name_of(text)
    is_path = re.fullmatch(r"[A-Za-z_]+(?:\.[A-Za-z_]+)+", text)  # of a class
    is_sentence = text.count(" ") > 1 and not re.search(r"\d", text)
    if (is_path or is_sentence) and not set(other.parts).isdisjoint(name.parts):
        return True
    return len(other.parts) > 1 and re.fullmatch(r"[A-Za-z_ -]+", text) is not None and other.mentions_secret


def _is_code(source: Source, name: Name, value: Value, text: str) -> bool:
    """Return whether a value is code that gets a secret: a call, an item, an attribute, a type, a variable named so."""
    if source.match(r"[a-z_][a-z_.]{2,60}[(\[]", value.start):
        return True
    if code := source.match(_CODE, value.start):
        return code.end() >= value.end
    parts = name_of(text).parts
    if re.fullmatch(r"[A-Za-z_]\w*(?:\.\w+)+", text) and not set(parts).isdisjoint(name.parts):
        return True
    if not re.fullmatch(r"[A-Za-z_][A-Za-z_.]*", text):
        return False
    line = source.folded[max(0, source.folded.rfind("\n", 0, name.start), name.start - 200) : name.start]
    is_attribute = "." in text and parts[:1] and parts[0] in _OBJECTS
    return bool(is_attribute) or "def " in line or not set(parts).isdisjoint(name.parts)


def _is_something_else(source: Source, name: Name, found: re.Match[str]) -> bool:
    """Return whether a name or its value means another thing: a test that passed, a shell's directory, a variable."""
    sign, at = found["sign"], found.end()
    if found["close"] and sign == ":" and source.match(r"[a-z_]+[\s,})]", at):
        return True  # {"token": token}
    if name.written.lower() == "pass" and sign == ":" and not found["close"]:
        return name.written == "PASS" or source.text[name.end : name.end + 1] != ":"
    return name.written in {"PWD", "OLDPWD"} and bool(source.match(r"/[\w./-]*(?:\s|\Z)|[a-z]:\\", at))


def _is_count(name: Name, text: str) -> bool:
    """Return whether a value counts what a name has several of."""
    number = text.strip(".,;-+")
    if len(number) < _SHORT_NUMBER and number.isdigit() and not name.is_password:
        return True
    return number.isdigit() and name.parts[-1] in {"tokens", "secrets", "keys", "credentials", "pass"}


def _opaque(source: Source, spans: Sequence[Span]) -> list[Span]:
    return [span for span in spans if is_opaque(source.text[slice(*span)])]


def _random(source: Source, spans: Sequence[Span]) -> list[Span]:
    return [span for span in spans if is_random(source.text[slice(*span)])]


def _closes_here(source: Source, at: int) -> bool:
    """Return whether the quotation mark at a place ends a text in which the name stands, like `"Password: "`."""
    mark = source.folded[at : at + 1]
    if not mark or mark not in "\"'":
        return False
    line = source.folded[max(0, source.folded.rfind("\n", 0, at), at - 200) : at]
    count = line.count('"') if mark == '"' else len(re.findall(r"(?<!\w)'|'(?!\w)", line))
    return count % 2 == 1
