"""What looks like a secret, and what is written instead of it. Pure: nothing is read here.

A secret is known by the name before it (secret_names.py), by the place where it stands, or by its own form. All are
found before any is replaced, so that no rule meets what another has left.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_incident.core.secret_names import secrets_of
from airflow_incident.core.secret_values import (
    BEGIN,
    HINTS,
    LOOK_ALIKES,
    PREFIX,
    QUOTE,
    Name,
    Source,
    is_no_secret,
    is_opaque,
    name_of,
    quoted_value,
    read_value,
    stands_in,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Span = tuple[int, int]
    Replacement = tuple[int, int, str]

STARS = "***"
WITHHELD = "(a text that could not be redacted)"
_LONGEST_NAME = 64
_MOST_PASSES = 5
"""Until nothing more is found: what was between two secrets may tell more once they are gone."""


class Form(NamedTuple):
    """What a secret looks like. Its group is the secret; without a group it is all of it.

    A pattern is tried, and compiled, for texts that have one of its words, which are in small letters. `is_vague` says
    that only what looks like a secret itself is one.
    """

    words: tuple[str, ...]
    pattern: str
    text: str = STARS
    is_vague: bool = False

    def secret(self, _: Source, found: re.Match[str]) -> Span:
        """Say where the secret stands."""
        return found.span(found.lastindex or 0)


class Lead(NamedTuple):
    """What stands before a secret, which is then one value, with or without quotation marks.

    `behind` is a mark in the value that ends what comes before the secret, like the colon in `user:password`.
    """

    words: tuple[str, ...]
    pattern: str
    behind: str = ""
    is_vague: bool = False
    text: str = STARS

    def secret(self, source: Source, found: re.Match[str]) -> Span | None:
        """Read the value behind it, also in quotation marks that an option shares with it, like `'-p…'`."""
        at = found.end()
        opened = re.search(r"(['\"])-\w$", source.text[max(0, at - 3) : at])
        value = (quoted_value(source, opened[1], at) if opened else None) or read_value(source, at)
        if value is None:
            return None
        start = source.text.find(self.behind, value.start, value.end) + 1 if self.behind else value.start
        return (start, value.end) if start and not is_no_secret(source.text[start : value.end]) else None


_GAP = rf"(?:[ \t]{{1,8}}(?:\\\n[ \t]{{0,8}})?|{QUOTE},\s{{0,8}}(?={BEGIN}))"
"""Between two words of a command line, which may be a list; the quotation mark of the second is not in it."""
_NEXT = rf"(?:[ \t]{{1,8}}|{QUOTE},\s{{0,8}}{PREFIX}{QUOTE})"


def _option(commands: str, options: str, *, gap: str = _GAP) -> str:
    return rf"\b(?:{commands})\b[^\n|;&]{{0,200}}?(?<=[\s'\"])(?:{options}){gap}"


_JOINED = r"(?=[^\s'\",)\]]|['\"][^\s,)\]'\"])"
_THEN = rf"{QUOTE},\s{{0,4}}(?={BEGIN})"
_GAP_OR_NONE = rf"(?:{_GAP}|{_JOINED})"
_GAP_OR_IS = rf"(?:{_GAP}|=)"
_REGISTRIES = "docker|podman|nerdctl|helm|skopeo|oras|crane|buildah|registry"
_MYSQL = r"mysql\w{0,10}|mariadb(?:-\w{1,10})?|mycli"
_MONGO = r"mongo(?:sh|dump|restore|export|import|stat|top)?"
_JWK = tuple(f"{last}{mark}" for last in "dpqik" for mark in "'\"")
_BREAK = r"(?:\s|\\{1,4}[rn])"
_PART = (
    r"(?:(?:Proc-Type|DEK-Info|Comment|Version|Charset|Subject|Hash): ?[^\n\\\"']{0,100}|[A-Za-z0-9+/=]{1,1000}+)"
    r"(?=\s|[\\\"'-]|\Z)"
)
_LINES = r"[A-Za-z0-9+/=]{30,100}[ ]?(?:\r?\n|\\{1,4}r\\{1,4}n|\\{1,4}n)[ ]{0,8}"

_LEADS = (
    Lead(("mysql", "mariadb", "mycli"), _option(_MYSQL, "-p", gap=_JOINED)),
    Lead(("sshpass",), _option("sshpass", "-p", gap=_GAP_OR_NONE)),
    Lead(("redis-cli",), _option("redis-cli", "-a")),
    Lead(("curl", "wget", "http"), _option("curl|wget|https?", "-u|--user|-U|--proxy-user|-a", gap=_GAP_OR_IS), ":"),
    Lead(("smbclient", "rpcclient"), _option("smbclient|rpcclient", "-U|--user"), "%"),
    Lead(("lftp",), _option("lftp", "-u"), ","),
    Lead(("sqlcmd", "bcp", "osql", "tsql"), _option("sqlcmd|bcp|osql|tsql|freebcp", "-P", gap=_GAP_OR_NONE)),
    Lead(("login",), _option(rf"(?:{_REGISTRIES}|az){_NEXT}login", "-p")),
    Lead(("login",), _option("login", "-p"), is_vague=True),
    Lead(("htpasswd",), r"\bhtpasswd[ ]-\w{0,4}b\w{0,4}[ ]\S{1,200}[ ]\S{1,100}[ ]"),
    Lead(("login ",), r"\bLOGIN[ ]\S{1,100}[ ](?=\S)", is_vague=True),
    Lead(("pass ",), r"(?:(?<=['\"])|\bUSER[ ]\S{1,100}[ ])PASS[ ](?=\S)", is_vague=True),
    Lead(("auth.user.info",), r"\bauth\.user\.info\s?[=:]\s?", ":"),
    Lead(("mongo",), _option(_MONGO, "-p")),
    Lead(("ldap",), _option(r"ldap\w{1,12}", "-w")),
    Lead(("plink", "pscp", "psftp", "putty"), _option("plink|pscp|psftp|putty", "-pw")),
    Lead(("zip",), _option("zip|unzip|zipcloak", "-P")),
    Lead(("7z", "rar"), _option("7z[azr]?|(?:un)?rar", "-p", gap=_JOINED)),
    Lead(("beeline", "sqoop", "snmp"), _option(r"beeline|snmp\w{1,12}", "-p|-A|-X")),
    Lead(("openssl",), _option("openssl", "-k|-K")),
    Lead(("<<<",), r"(?:--password-stdin|\bsudo[ ]-S|\bchpasswd)\b[^\n|]{0,80}<<<[ ]?"),
    Lead(("fs.azure.",), rf"\bfs\.azure\.(?:account\.key|sas)\.[\w.-]{{1,200}}{QUOTE}?\s?[:=,]\s?"),
    Lead(("pass:",), r"-pass(?:in|out)?\b['\"]?,?[ ]{1,4}['\"]?pass:"),
    Lead(("from-literal",), r"--from-literal(?:=|[ ]{1,4})[\w.-]{1,100}="),
    Lead(("vault",), rf"\bvault{_NEXT}login{_GAP}(?!-)(?:token=)?"),
    Lead(("securestring",), r"(?i)\bConvertTo-SecureString[ ](?:-String[ ])?(?=['\"])"),
    Lead(("password",), r"\b(?:login|account|machine)\s{1,8}\S{1,100}\s{1,8}password\s{1,8}"),  # .netrc
    Lead(
        ("identified",),
        r"(?i)\b(?:user|role|to|for|exists)\s{1,8}\S{1,200}\s{1,8}identified(?:[ ]with[ ][\w'\"]{1,60})?"
        r"[ ](?:by|as)[ ](?:password[ ]|values[ ])?",
    ),
    Lead(("auth",), r"\bAUTH[ ](?:(?:PLAIN|LOGIN|XOAUTH2|CRAM-MD5)[ ])?(?=[^\s'\"]{6})", is_vague=True),
    Lead(
        ("auth", "login", "credentials", "bind"),
        rf"(?i)(?:auth|login|authenticate|credentials|bind|bind_s)\([ ]?{BEGIN}[^'\"\n]{{1,80}}{_THEN}",
    ),
    Lead(("fernet(",), rf"(?i)\b(?:multi)?fernet\([ ]?(?={BEGIN})"),
    Lead(("bearer", "bas"), r"(?i)\b(?:bearer|basic)\s{1,4}(?=[a-z0-9._~+/=-]{8})", is_vague=True),
)  # fmt: skip

_FORMS = (
    # Without an end the rest goes, for it was cut; this also keeps the search from starting over at each beginning.
    Form(
        ("[parameters: ",),
        r"(?s)\[parameters: (?!%).*?(?:\](?=\n|\\n|['\"]|\Z|\s{0,4}\(Background)|\Z)",
        "[parameters: cut]",
    ),
    # What comes behind a user in an address, unless that is a port.
    Form(
        ("://",),
        r"""(?x) ://[^\s/:"'<>()`]{0,128}: (?!\d{1,5}(?:[/?\#\s"'<>),;\]}]|\Z))
        ( (?:[^\s@"'<>`]|'(?![\s,;)\]}]|\Z)){1,512}+ (?:@[^\s@/?\#"'<>]{0,512}(?=@)){0,8}+
          (?:@[\w-]{1,64}/[^\s@/?\#"'<>]{1,512}(?=@[\w-]+(?:\.[\w-]+)+(?:[:/]|\Z)))? ) @(?=[\w\[.{%$<])""",
    ),
    Form(("://",), r"://([A-Za-z0-9_-]{20,255})(?::x-oauth-basic)?@(?=[\w.-])", is_vague=True),  # a token as user
    Form(("@tcp(", "@unix("), r"""[\w.-]{1,64}:([^\s"']{1,400}?)@(?:tcp|unix)\("""),
    Form(
        ("oracle", "sqlplus", "sqlldr", "expdp", "impdp"),
        r"(?:oracle:[a-z]{1,8}:|(?:sqlplus|sqlldr|expdp|impdp)\b[^\n]{0,60}?[ ])[\w.]{1,64}/([^\s@/]{1,256})@",
    ),
    Form(
        ("hooks.slack.com", "/webhooks/", "webhookb2"),
        r"(?:hooks\.slack\.com/(?:services|workflows)|api/webhooks|webhookb2)/([\w/@.-]{8,400})",
    ),
    Form(("/bot",), r"/bot(\d{5,12}:[\w-]{20,100})"),
    Form(("secret_id", "secretid", "secret-id"), r"(?i)secret[_-]?id[\"']?\s?[:=]\s?[\"']?([0-9a-f-]{32,36})\b"),
    Form(("code=",), r"[?&]code=([\w+/=%.~-]{24,2000})"),
    Form(("oracle",), r"(?i)oracle\w{0,4}\.connect\([ ]?['\"][\w.]{1,64}/([^\s@/'\"]{1,256})@"),
    Form(
        ("echo", "printf"),
        r"\b(?:echo|printf)[ ](?:-\w{1,3}[ ])?[\"']?([^\n\"'|]{1,400}?)[\"']?[ ]?\|[ ]?"
        r"(?:sudo[ ]-S|chpasswd|kinit|docker[ ]secret|gh[ ](?:auth|secret)|[^\n|]{0,120}--password-stdin)\b",
    ),
    Form(("key",), r"(?i)\bkey\W{1,4}([\w-]{43}=)(?![\w=])"),
    # .pgpass
    Form((":",), r"(?m)^[\w.*-]{1,255}:(?:\d{4,5}|\*):[^:\s]{1,64}:[^:\s]{1,64}:(\S{1,400})$"),
    # Keys in armour, also such as were cut.
    Form(
        ("private key",),
        rf"-{{4,5}} ?BEGIN [A-Z\d ]{{0,40}}PRIVATE KEY(?: BLOCK)? ?-{{4,5}}(?:{_BREAK}+{_PART})++"
        rf"(?:{_BREAK}*-{{4,5}} ?END [A-Z\d ]{{0,40}}PRIVATE KEY(?: BLOCK)? ?-{{4,5}})?",
    ),
    Form(
        ("private key",),
        rf"(?m)((?:{_LINES}){{0,200}}+(?:^[A-Za-z0-9+/=]{{1,100}}\s{{1,8}})?)-{{4,5}} ?END [A-Z\d ]{{0,40}}PRIVATE KEY",
    ),
    Form(("private-lines",), r"(?i)Private-Lines: \d{1,4}\s{1,4}((?:[A-Za-z0-9+/=]{1,100}\s{1,4}){1,200}+)"),
    Form(_JWK, r"""["'](?:d|p|q|dp|dq|qi|k)["']\s?:\s?["']([\w-]{22,2000})["']"""),
    # Words that are secrets by their own form.
    Form(("eyj",), r"\beyJ[\w-]{8,8000}\.[\w-]{8,8000}(?:\.[\w-]{0,8000}){0,3}"),
    Form(("akia", "asia", "abia", "acca"), r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"),
    Form(("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"\bgh[pousr]_\w{20,255}"),
    Form(("github_pat_",), r"\bgithub_pat_\w{20,255}"),
    Form(("glpat-", "glptt-", "glrt-", "gldt-", "glsoat-", "glcbt-"), r"\bgl(?:pat|ptt|rt|dt|soat|cbt)-[\w.-]{16,300}"),
    Form(("xox", "xapp-"), r"\b(?:xox[a-z]|xapp)-[\w.-]{8,400}"),
    Form(("k_live_", "k_test_", "whsec_"), r"\b(?:[psr]k_(?:live|test)|whsec)_[\w+/=]{10,255}"),
    Form(("aiza",), r"\bAIza[\w-]{30,50}"),
    Form(("ya29.",), r"\bya29\.[\w.-]{20,2000}"),
    Form(("gocspx-", "1//0"), r"\b(?:GOCSPX-|1//0)[\w-]{20,255}"),
    Form(("sk-",), r"\bsk-(?=[\w-]{0,200}\d)[\w-]{20,400}"),
    Form(("npm_",), r"\bnpm_[A-Za-z0-9]{30,60}"),
    Form(("pypi-",), r"\bpypi-[\w-]{32,400}"),
    Form(("sg.",), r"\bSG\.[\w-]{16,64}\.[\w-]{16,100}"),
    Form(tuple(f"sk{digit}" for digit in "0123456789abcdef"), r"\bSK[0-9a-f]{32}\b"),
    Form(("dapi",), r"\bdapi[0-9a-f]{32}(?:-\d{1,2})?"),
    Form(("ver:",), r"\bver:\d{1,3}-hint:\d{1,20}-[\w+/=-]{16,2000}"),
    Form(("q~",), r"(?<![\w.~-])[\w.~-]{3}\dQ~[\w.~-]{31,40}"),
    Form(("hvs.", "hvb.", "hvr."), r"\bhv[sbr]\.[\w-]{20,400}"),
    Form(("sl.",), r"\bsl\.[\w-]{60,2000}"),
    Form(("hf_",), r"\bhf_[A-Za-z0-9]{30,60}"),
    Form(("age-secret-key-",), r"(?i)\bAGE-SECRET-KEY-1[a-z0-9]{40,80}"),
    Form(("shp", "dop_v1_", "doo_v1_", "dckr_"), r"\b(?:shp(?:at|ss|ca|pa)|do[op]_v1|dckr_(?:pat|oat))_[\w-]{20,255}"),
    Form(("glsa_", "glc_", "sntry", "lin_api_", "figd_"), r"\b(?:glsa|glc|sntry[su]|lin_api|figd)_[\w=+/-]{20,400}"),
    Form(("pul-", "nrak-", "pmak-", "rubygems_"), r"\b(?:pul-|NRAK-|PMAK-|rubygems_)[\w-]{20,255}"),
    Form(("atat", "atbb"), r"\b(?:ATATT|ATBB)[\w=-]{20,255}"),
    Form(("xkeysib-", "pscale_", "secret_", "ntn_"), r"\b(?:xkeysib-|pscale_(?:tkn|pw)_|secret_|ntn_)[\w-]{32,255}"),
    Form(("$",), r"\$(?:2[abxy]|[1569y]|apr1|argon2(?:id?|d)|pbkdf2-sha\d{1,3}|scrypt)\$[\w./$=,+-]{16,300}"),
    Form(("scram-sha-",), r"SCRAM-SHA-\d{1,3}\$[\w+/=:$]{20,300}"),
)  # fmt: skip
_INSERT = r"(?i)\binsert\s{1,8}into\s{1,8}[\w.\"'`\[\]]{1,128}\s{0,8}\(([^()]{1,2000})\)\s{0,8}values\s{0,8}\("
_TABLE = (
    r"(?m)^(?P<head>[\w.-]{1,64}(?:(?P<mark>[,;\t])[\w.-]{1,64})(?:(?P=mark)[\w.-]{1,64}){0,60})\r?\n"
    r"(?P<rows>(?:(?=[^\n]*(?P=mark))[^\s][^\n]*(?:\n|\Z)){1,200}+)"
)
_HINT = "|".join(map(re.escape, HINTS))


def redact_secrets(text: str, *, known: Sequence[str] = (), mask: Callable[[str], Any] | None = None) -> str:
    """Replace known secrets, and what looks like one, with three stars; cut the parameters of SQL statements.

    :param mask: Airflow's own redaction, which goes first. What it makes no text of stays as it was.
    """
    try:
        masked = mask(text) if mask else text
        text = masked if isinstance(masked, str) else text
        for _ in range(_MOST_PASSES):
            source = Source(text, text.translate(LOOK_ALIKES).lower())
            text = _replaced(text, sorted(_found(source, known)))
            if text == source.text:
                break
    except Exception:  # noqa: BLE001 -- a text that breaks a rule must neither leave as it is nor cost its failure
        return WITHHELD
    return text


def _found(source: Source, known: Sequence[str]) -> Iterator[Replacement]:
    """Find the secrets of a text: the known ones, those of a form, those behind a lead, and those of a name."""
    for secret in filter(None, known):
        for found in re.finditer(re.escape(secret), source.text):
            yield *found.span(), STARS
    for rule in (*_FORMS, *_LEADS):
        if any(word in source.folded for word in rule.words):
            for found in re.finditer(rule.pattern, source.text):
                span = rule.secret(source, found)
                secret = source.text[slice(*span)] if span else ""
                if span and not stands_in(secret) and (is_opaque(secret) or not rule.is_vague):
                    yield *span, rule.text
    if any(hint in source.folded for hint in HINTS):
        for start, end in (*_named(source), *_inserted(source), *_listed(source)):
            yield start, end, STARS


def _replaced(text: str, found: Sequence[Replacement]) -> str:
    """Write replacements into a text; of those that meet the first goes for all."""
    parts: list[str] = []
    done, last = 0, -1
    for start, end, stars in found:
        if start > last:
            parts += [text[done:start], stars]
        done = last = max(last, end)
    return "".join([*parts, text[done:]])


def _named(source: Source) -> Iterator[Span]:
    """Find what is a secret by the name that stands before it."""
    done = 0
    for hint in re.finditer(_HINT, source.folded):
        if hint.start() < done:
            continue
        name = _name_around(source, *hint.span())
        spans = secrets_of(source, name)
        yield from spans
        done = max([name.end, *(end for _, end in spans)])


def _name_around(source: Source, start: int, end: int) -> Name:
    """Read the whole name that has a hint in it."""
    folded = source.folded
    least, most = max(0, start - _LONGEST_NAME), min(len(folded), end + _LONGEST_NAME)
    while start > least and (folded[start - 1].isalnum() or folded[start - 1] in "_-."):
        start -= 1
    while end < most and (folded[end].isalnum() or folded[end] in "_-."):
        end += 1
    while folded[end - 1] in "-.":
        end -= 1
    # What ends a colour, or an escaped end of a line, stands right before a name.
    if start and (found := re.match(r"[0-9;]{0,8}m", folded[start:end]) if folded[start - 1] == "[" else None):
        start += found.end()
    elif start and folded[start - 1] == "\\" and folded[start] in "nrt":
        start += 1
    word = re.search(r"([^\W\d_]{1,20})[ _-]$", folded[max(0, start - 24) : start])
    return name_of(source.text[start:end], start, end, word[1] if word else "")


def _inserted(source: Source) -> Iterator[Span]:
    """Find what an SQL statement writes into columns of secrets."""
    if "insert" not in source.folded:
        return
    for found in re.finditer(_INSERT, source.text):
        at = found.end()
        for is_secret in _are_secret(found[1].split(",")):
            gap = re.compile(r"[\s,]{0,40}").match(source.text, at)
            value = read_value(source, gap.end()) if gap else None
            if value is None:
                break
            if is_secret and not is_no_secret(source.text[value.start : value.end]):
                yield value.start, value.end
            at = value.after


def _listed(source: Source) -> Iterator[Span]:
    """Find what a table of CSV has in columns of secrets."""
    for found in re.finditer(_TABLE, source.text):
        columns = _are_secret(found["head"].split(found["mark"]))
        at = found.start("rows")
        for row in found["rows"].splitlines(keepends=True):
            cells = row.rstrip("\r\n").split(found["mark"])
            start = at
            for is_secret, cell in zip(columns, cells, strict=False):
                if is_secret and len(cells) == len(columns) and len(cell) > 1 and not is_no_secret(cell):
                    yield start, start + len(cell)
                start += len(cell) + 1
            at += len(row)


def _are_secret(columns: Sequence[str]) -> list[bool]:
    return [name_of(column.strip(" \t\r\n\"'`[]")).is_secret for column in columns]
