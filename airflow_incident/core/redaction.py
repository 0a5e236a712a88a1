"""What looks like a secret, and what is written instead of it. Pure: nothing is read here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_SECRETS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    # Without an end the rest goes, for it was cut; this also keeps the search from starting over at each beginning.
    (("[parameters: ",), r"(?s)\[parameters: .*?(?:\](?=\n|\Z|\s{0,4}\(Background)|\Z)", "[parameters: cut]"),
    # postgres://user:password@host
    (("://",), r"(?<=://)([^\s/@:]{0,256}):[^\s@]{1,512}@", r"\1:***@"),
    (("bearer", "bas"), r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}", r"\1 ***"),
    # password=…, "api_key": "…", --token …; but not our own "Alert source token: missing; …"
    (
        ("pass", "pwd", "secret", "token", "key", "cred"),
        r"""(?ix) ((?:passw(?:or)?d|pwd|passphrase|secret|token|api[_-]?key
        |access[_-]?key|private[_-]?key|credential)[\w.-]{0,40} ["']? \s{0,4} (?:=>|[=:]) \s{0,4})
        (?! missing; | has\ spaces\ )
        (?: "[^"\n]*" | '[^'\n]*' | [^\s,;&)}\]]+ )""",
        r"\1***",
    ),
    (
        ("-----",),
        r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
        "***",
    ),
)
"""What a secret looks like, and what to write instead. A pattern is compiled for texts with one of its words only.

The words are looked for in folded text and have no i: `re` knows two that folding does not make one.
"""


def redact_secrets(text: str, *, known: Sequence[str] = ()) -> str:
    """Replace known secrets, and what looks like one, with three stars; cut the parameters of SQL statements."""
    for secret in known:
        if secret:
            text = text.replace(secret, "***")
    folded = text.casefold()
    for words, pattern, replacement in _SECRETS:
        if any(word in folded for word in words):
            text = re.sub(pattern, replacement, text)
    return text
