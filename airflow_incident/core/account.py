"""Where the API is and who asks: the connection's own fields, checked."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from airflow_incident.constants import CONN_TYPE
from airflow_incident.errors import Problem

if TYPE_CHECKING:
    from airflow_incident.core.settings import Settings

DEFAULT_BASE_URL = "https://api.incident.io"
_OUR_TYPE = re.compile(r"incident[ ._-]?io", re.IGNORECASE)
_SCHEMA_OF_URI = "ncident_io//"
"""What Airflow makes of `incident_io://`, in front of all the rest: no URI's scheme has an underscore."""
_SLIP = re.compile(r"(https?)(?::/+|//+)", re.IGNORECASE)
_VERSION = re.compile(r"/v[12](?:/.*)?$")
_WEBSITE = frozenset({"incident.io", "www.incident.io", "app.incident.io"})


class Account(NamedTuple):
    """One API key at one address, and the alert source beside it. No key, token or proxy's password is ever shown."""

    base_url: str = DEFAULT_BASE_URL
    api_key: str = ""
    alert_source_id: str | None = None
    alert_source_token: str = ""
    proxy: str | None = None
    ca_bundle: str | None = None

    def __repr__(self) -> str:
        return f"Account({self.base_url!r})"


class Fields(NamedTuple):
    """A connection's own fields."""

    conn_type: str = CONN_TYPE
    login: str | None = None
    password: str | None = None
    host: str | None = None
    schema: str | None = None
    port: int | None = None


def read_fields(connection: Any) -> Fields:
    """Read a connection's own fields, in the forms that people write and Airflow makes of them.

    A type that is left out, or spelled like ours, is ours.
    """
    conn_type = _text(connection.conn_type) or CONN_TYPE
    if _OUR_TYPE.fullmatch(conn_type):
        conn_type = CONN_TYPE
    schema = _text(connection.schema) or ""
    if not connection.conn_type and schema.startswith(_SCHEMA_OF_URI):
        return _fields_of_uri(schema.removeprefix(_SCHEMA_OF_URI))
    login, password, host = map(_text, (connection.login, connection.password, connection.host))
    return Fields(conn_type, login, password, host, _text(connection.schema), connection.port)


def _text(value: Any) -> str | None:
    """Read a field: in a connection that is written as JSON, a key of digits is a number."""
    return value if value is None or isinstance(value, str) else str(value)


def _fields_of_uri(text: str) -> Fields:
    """Read what Airflow has left together, unquoted: `:key@host`, with a port and a schema if there are any."""
    user, _, place = text.rpartition("@")
    login, _, password = user.partition(":")
    host, _, schema = (place, "", "") if "://" in place else place.partition("/")
    return Fields(CONN_TYPE, login, password, host, schema)


def is_loopback(host: str | None) -> bool:
    """Return whether a host name or address can only mean this machine."""
    if not host:
        return False
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def read_account(fields: Fields, settings: Settings) -> tuple[Account, list[Problem]]:
    """Check a connection's own fields; tell every one that cannot be used.

    :param settings: What stands in its extra. To send alerts takes no API key, but a source and its token.
    """
    key, token = (fields.password or "").strip(), (settings.alert_source_token or "").strip()
    hint = "create one in incident.io under Settings > API keys"
    if fields.login:
        hint = "it belongs into the password, and the connection has a login only (in a URI: incident-io://:KEY@)"
    needed = {"API key": (key, hint)}
    if settings.channel == "alert":
        needed = {
            "Alert source ID": (settings.alert_source_id or "", "it stands in the URL of the HTTP alert source"),
            "Alert source token": (token, "incident.io shows it with the HTTP alert source"),
        }
    problems = [Problem(label, f"missing; {hint}") for label, (value, hint) in needed.items() if not value]
    problems += [
        Problem(label, "has spaces or characters that no key has; copy it once more")
        for label, value in {"API key": key, "Alert source token": token}.items()
        if value and (not value.isascii() or not value.isprintable() or " " in value)
    ]
    base_url = DEFAULT_BASE_URL
    try:
        base_url = _base_url((fields.host or "").strip(), (fields.schema or "").strip(), fields.port)
    except ValueError as error:
        problems.append(Problem("Base URL", str(error)))
    if settings.proxy and not _is_proxy(settings.proxy):
        problems.append(Problem("Proxy", "must be like http://host:port or https://host:port"))
    account = Account(
        base_url=base_url,
        api_key=key,
        alert_source_id=settings.alert_source_id,
        alert_source_token=token,
        proxy=settings.proxy,
        ca_bundle=settings.ca_bundle,
    )
    return account, problems


def _is_proxy(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and text.isprintable() and " " not in text


def _base_url(text: str, scheme: str, port: int | None) -> str:
    """Read the forms that people write: a host, a host and a port, a URL, also with a version of the API behind it."""
    if not text:
        return DEFAULT_BASE_URL
    if not text.isprintable() or " " in text:
        raise ValueError("has spaces or line breaks; copy it once more")
    path = ""
    if scheme.lower() not in {"", "http", "https"}:  # Airflow takes the path of a URI for a schema
        scheme, path = "", f"/{scheme.strip('/')}"
    parts = urlsplit(text if "://" in text else _with_scheme(text, scheme or "https"))
    if parts.scheme not in {"http", "https"}:
        raise ValueError(f"begins with {parts.scheme}://; use https://")
    if not parts.hostname:
        raise ValueError(f"names no host; use {DEFAULT_BASE_URL}")
    if parts.hostname in _WEBSITE:
        raise ValueError(f"is incident.io's website; use {DEFAULT_BASE_URL}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must be an address only, without user, query or fragment")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("plain http would send the API key unencrypted; use https:// (http is for this machine only)")
    where = parts.netloc.lower()
    try:
        where = f"{where}:{port}" if not parts.port and port else where
    except ValueError:
        raise ValueError("has a port that is no number up to 65535") from None
    return f"{parts.scheme}://{where}{_VERSION.sub('', parts.path.rstrip('/') + path).rstrip('/')}"


def _with_scheme(text: str, scheme: str) -> str:
    """Write an address as a URL, whatever slashes it has in front."""
    if slip := _SLIP.match(text):
        return f"{slip[1]}://{text[slip.end() :]}"
    text = text.lstrip("/")
    try:
        return f"{scheme}://[{ip_address(text)}]" if ":" in text else f"{scheme}://{text}"
    except ValueError:
        return f"{scheme}://{text}"


_INCIDENT_PAGE = (
    # Strict, for browsers and Python split odd addresses differently: no user, no backslash, nothing but ASCII.
    r"(?:https://(?:[a-z0-9-]+\.)*incident\.io|https?://(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?)"
    r"(?:/[A-Za-z0-9._~%!$&'()*+,;=:@/?#-]*)?"
)


def is_incident_page(url: str) -> bool:
    """Return whether an address that somebody else wrote is one of incident.io, or of a sandbox on this machine."""
    return re.fullmatch(_INCIDENT_PAGE, url) is not None
