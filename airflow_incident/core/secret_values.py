"""Names and values of secrets: the words that tell them, and where a value begins and ends in a text."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

LOOK_ALIKES: Mapping[int, int | str] = {
    **{0xFF01 + mark: chr(0x21 + mark) for mark in range(94)},  # full width
    **str.maketrans("ıİſ\u212aаесорхуіјѕԁһӏ", "iiskaecopxyijsdhl"),
    **str.maketrans("АВСЕНІЈКМОРЅТХ", "ABCEHIJKMOPSTX"),  # Cyrillic
    **str.maketrans("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧο", "ABEZHIKMNOPTYXo"),  # Greek
}
"""Letters that are read as others. `re` takes some of them for those, `casefold` does not; a reader takes all.

A text becomes no shorter or longer, so that what is found in the plain one has the same place in it.
"""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.translate(LOOK_ALIKES).lower().split())


_PASSWORDS = _words(
    "password passwd passw passwort passphrase passcode pwd pswd kennwort contraseña contrasena motdepasse senha "
    "wachtwoord parola hasło пароль 密码 密碼 パスワード 비밀번호"
)
_ENDS = (*_PASSWORDS, "secret", "token", "apikey", "credential")
"""A part of a name that ends so has a secret, as in `PGPASSWORD` or `dbToken`."""
HINTS = (
    *_words("pass pwd pswd pw psw secret token key cred auth cookie sig sess sid jwt psk otp mdp saml"),
    *(word for word in _PASSWORDS if "pass" not in word),
)
"""A name that has a secret has one of these."""
_WHOLE = frozenset(_words("pass pw psw psk mdp bindpw rootpw userpw dbpw"))
"""Parts that mean a secret where a name ends with them."""
_WHOSE_PASS = frozenset(
    _words(
        "db user my ftp smtp mail ssh ldap root admin key store trust http proxy bind redis pg mysql sql wifi new old "
        "svc service app cert require master"
    )
)
_NO_PASS = frozenset(_words("first second third last multi single one two render test by each per num pre mid"))
_KEYS = _words(
    "api access client private secret account shared preshared signing encryption decryption auth authentication "
    "authorization master storage subscription license licence consumer session hmac fernet webhook deploy function "
    "functions integration symmetric aes jwt security admin app application cipher service recovery restricted "
    "ingestion"
)
"""Whose key is a secret; a primary, public or partition key is none."""
_WEAK = frozenset(_words("auth sig signature jwt sid session sessionid otp assertion masterauth"))
_WEAK_PAIRS = frozenset({("session", "id"), ("saml", "response"), ("routing", "key")})
"""Names whose value may be a secret; it is one if it looks as if nobody could have made it up."""
_ABOUT = frozenset(
    _words(
        "id ids name names path paths file files filename dir url urls uri endpoint endpoints host type types count "
        "counts length len size limit max min expiry expires expired expiration expire ttl at in time date age policy "
        "version versions arn provider providers backend backends class method methods field fields column columns "
        "index required enabled disabled valid error errors exception failure failures warning scope scopes algorithm "
        "alg format location region manager ref hint prompt stdin label description source strategy rotation status "
        "state usage budget mask regex pattern rules requirement requirements attempts changed updated created reset "
        "generator validator factory handler parser lexer bucket table mount role user username owner number position "
        "pos offset start end line kind set not found invalid missing mismatch refresh rotate py json yaml yml txt log "
        "md csv sql com net org io"
    )
)
"""A name that ends so is about a secret, and has none."""
_TROUBLE = frozenset(
    _words(
        "invalid expired missing unexpected bad unknown wrong no not malformed revoked unauthorized near next current"
    )
)
"""What stands before a name that a message has something against."""
_SAID = frozenset(
    _words(
        # literals and types
        "none null nil true false undefined yes no on off str string int integer bool boolean bytes float dict list "
        "any optional union object type text varchar char number secretstr redacted hidden masked empty unset "
        # messages
        "missing required invalid expired not is was are were has have had must should shall may might can cannot "
        "can't could does did do done don't doesn't didn't isn't wasn't failed fails failure incorrect wrong bad "
        "unknown unable error errors denied too the a an malformed unsupported unexpected insufficient signature "
        "authentication authorization permission access rejected revoked refused exceeded already only please you "
        "your it its this that these those there if for from at in on with by to of and or but when where while "
        "because since after before until use uses using used set see check checks expected got found provided given "
        "enabled disabled default ok valid option flag argument field blank be been being least most more less than "
        "accepted supported allowed protected read write get create delete update manage list admin loaded needed "
        "nobody"
    )
)
"""Words that are read behind the name of a secret, and are none."""
_LOOKUPS = frozenset(
    _words(
        "get getenv environ env read load fetch lookup vault variable conf config getpass input prompt argv pop var "
        "parameter open require"
    )
)
"""Functions that are given the name of a secret."""
SCHEMES = frozenset(
    _words(
        "basic bearer token apikey api-key digest negotiate ntlm oauth hawk mac sharedkey sharedkeylite splunk "
        "geniekey ssws snowflake aws4-hmac-sha256 aws key hmac sharedaccesssignature jwt"
    )
)
"""What says how an Authorization header is to be read."""
_PLACEHOLDER = r"""(?x) (?: \$?\{+[^{}]{0,80}\}+ | %\(\w+\)s | %[sdr] | <[^<>]{0,80}> | \[[A-Z_]+\] | \? | \$[A-Z_]+
    | \$\d | \*+ | •+ | x{3,} | … | [\s:/.,;|@-] )+"""
_PLACE = r"""(?x)
    (?:[A-Za-z]:)?[\w.~-]*(?:[/\\][\w.@~-]+)+\.(?:json|ya?ml|ini|cfg|conf|txt|pem|key|crt|toml|env|jks|p12|pfx|py|sh)
    | /(?:run|etc|var|opt|home|[Uu]sers|usr|mnt|root|tmp|secrets|vault)(?:/[\w.@~-]+)+
    | projects/[\w-]+/secrets/[\w./-]+
    | arn:[\w:/.*-]+ | (?:https?|s3|gs|file)://[^\s?\#@]+"""
_LONG = 200
"""Characters of a value that nobody has to look at to know that it is no word."""
_LEAST = 8
_CHANGES = 3
_WORD_LENGTH = 6
"""A word with a capital for every so many letters, and that many times, is none."""
_LETTERS = ("[a-z]", "[A-Z]", "[0-9]")
_NO_WORD = r"\d{4}-\d\d-\d\d|[\d.,:/-]+$|[\w.-]+\.\w+:\d+$"
"""A date, a number, a host with its port."""


class Name(NamedTuple):
    """A name in a text, and where it stands; `parts` are its words, `before` is the word before it."""

    start: int
    end: int
    written: str
    parts: tuple[str, ...]
    before: str

    @property
    def is_secret(self) -> bool:
        """Whether its value is a secret, whatever that looks like."""
        *others, last = self.parts or ("",)
        if not last or last in _ABOUT:
            return False
        if last in _WHOLE and not (others and others[-1] in _NO_PASS):
            return True
        return self.mentions_secret or (last.endswith("pass") and last[:-4] in _WHOSE_PASS)

    @property
    def mentions_secret(self) -> bool:
        """Whether one of its words is of a secret, whatever it says about that."""
        return any(map(_is_secret_part, self.parts, (self.before, *self.parts)))

    @property
    def is_weak(self) -> bool:
        """Whether its value is a secret if it looks like one."""
        last = self.parts[-1] if self.parts else ""
        return last in _WEAK or last.endswith(("sessionid", "sessid")) or self.parts[-2:] in _WEAK_PAIRS

    @property
    def is_bare(self) -> bool:
        """Whether it is a key of whatever, which may be a secret one."""
        return self.parts == ("key",) and not self.is_secret

    @property
    def is_header(self) -> bool:
        """Whether its value is a scheme and credentials."""
        return self.parts[-1:] == ("authorization",)

    @property
    def is_cookie(self) -> bool:
        """Whether its value is a list of names and values."""
        return self.parts[-1:] in {("cookie",), ("cookies",)}

    @property
    def is_option(self) -> bool:
        """Whether it stands in a command line."""
        return self.written.startswith("-")

    @property
    def is_password(self) -> bool:
        """Whether it is a word that nothing else has; a token may be one of a language, a secret one of Kubernetes."""
        has_word = any("passw" in part or part.endswith(_PASSWORDS) for part in self.parts)
        return has_word or self.parts[-2:] == ("access", "key")

    @property
    def is_complained_of(self) -> bool:
        """Whether a message speaks of it."""
        first = self.parts[0] if len(self.parts) > 1 else self.before
        return first in _TROUBLE and not self.is_password


def name_of(written: str, start: int = 0, end: int = 0, before: str = "") -> Name:
    """Split a name into its parts: at marks, at digits, and where a capital begins."""
    found = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+", written.translate(LOOK_ALIKES))
    return Name(start, end, written, tuple(part.lower() for part in found), before)


def _is_secret_part(part: str, before: str) -> bool:
    single = part.removesuffix("s")
    if single.endswith(_ENDS) or part.startswith("password"):
        return True
    return single.endswith("key") and (single[:-3] or before).endswith(_KEYS)


def is_lookup(function: str) -> bool:
    """Return whether a function is given the name of a secret, not the secret."""
    return not _LOOKUPS.isdisjoint(name_of(function).parts)


def is_said(value: str) -> bool:
    """Return whether a value is what a message says of a secret: one such word, or a sentence that begins with one."""
    if len(value) > _LONG:
        return False
    words = [word.strip(".,:;!?()'\"").lower() for word in value.split()[:12]]
    if not words or words[0] not in _SAID:
        return False
    return len(words) == 1 or sum(word in _SAID for word in words) > 1


def stands_in(value: str) -> bool:
    """Return whether a value stands for a secret, or says where it is."""
    if len(value) > _LONG or not value:
        return not value
    return any(re.fullmatch(pattern, value) for pattern in (_PLACEHOLDER, _PLACE, "[:@][a-z_]+"))


def is_no_secret(value: str) -> bool:
    """Return whether a value stands for a secret, or is what a message says of one."""
    return stands_in(value) or is_said(value)


def is_opaque(value: str) -> bool:
    """Return whether a value is nothing that a person would write as a word, a number or a date."""
    if len(value) > _LONG:
        return True
    if len(value) < _LEAST or " " in value.strip() or re.match(_NO_WORD, value):
        return False
    kinds = (*_LETTERS, r"[^\w\s.,:;'()-]")
    if sum(bool(re.search(kind, value)) for kind in kinds) < 2:  # noqa: PLR2004 -- a word has one
        return False
    capitals = len(re.findall("[a-z](?=[A-Z])", value))
    return bool(re.search(r"[0-9@#$%^&*!~+=]", value)) or capitals >= max(_CHANGES, len(value) / _WORD_LENGTH)


def is_random(value: str) -> bool:
    """Return whether a value is one that no person has made up, in a text where names stand without any mark, too."""
    if len(value) < 2 * _LEAST or not re.fullmatch(r"(?:0x)?[\w+/=.~@#$%^&*!-]+", value):
        return False
    return all(re.search(kind, value) for kind in _LETTERS) or bool(re.fullmatch(r"(?:0x)?[0-9a-f]{32,}", value))


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
