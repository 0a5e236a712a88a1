"""What this Airflow installation says of itself: its configuration, read once per report."""

from __future__ import annotations

import os
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from airflow_incident.constants import CONFIG_SECTION
from airflow_incident.core.account import is_loopback
from airflow_incident.core.settings import OPTIONS, options_in, read_value, unknown_settings
from airflow_incident.core.timing import LONGEST_REPORT, RESERVE, SHORTEST_REPORT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_incident.errors import Problem

UNNAMED = "unnamed"
_UNNAMED_NOTE = (
    "This Airflow installation has no name: set deployment (in the connection or under [incident_io] in "
    "airflow.cfg) or a public {option}, or two installations may share one incident."
)


class AirflowConfig(NamedTuple):
    """Where Airflow's pages are and how long its processes let a callback run, in seconds.

    `config` is the section [incident_io] of airflow.cfg, with the options that are set there.
    """

    base_url: str | None = None
    major: int = 3
    overtime: float = 20.0
    batch_timeout: float = 50.0
    config: Mapping[str, str] = MappingProxyType({})

    def __repr__(self) -> str:
        """Leave out what airflow.cfg says, which may be a token or a proxy's password."""
        return f"Installation({self.base_url!r})"

    @property
    def enabled(self) -> bool:
        """Whether incidents are opened at all; a value that cannot be read does not silence failures."""
        try:
            return bool(read_value(OPTIONS["enabled"], self.config.get("enabled") or True))
        except ValueError:
            return True

    @property
    def name(self) -> str | None:
        """The installation's public address as a name; none if others cannot reach it.

        Port and path belong to it: several installations may live on one host.
        """
        parts = urlsplit(self.base_url or "")
        if is_loopback(parts.hostname) or not parts.hostname:
            return None
        return f"{parts.netloc.rpartition('@')[2].lower()}{parts.path.rstrip('/')}"

    @property
    def named(self) -> str:
        """The name in keys of an installation that has set none."""
        return self.name or UNNAMED

    @property
    def base_url_option(self) -> str:
        """Where airflow.cfg has the address of Airflow's pages: the web server became an API server in 3.0."""
        return f"[{'api' if self.major >= 3 else 'webserver'}] base_url"  # noqa: PLR2004 -- the version is a name

    @property
    def unnamed_note(self) -> str:
        """What to tell whoever reads an incident of an installation that has no name."""
        return _UNNAMED_NOTE.format(option=self.base_url_option)

    @property
    def report_seconds(self) -> float:
        """Time budget of one report: what a task's callback has, less a reserve."""
        return max(SHORTEST_REPORT, min(LONGEST_REPORT, self.overtime - RESERVE))

    @property
    def batch_seconds(self) -> float:
        """Time budget of all reports of one DAG-processor process together."""
        return self.batch_timeout / 2


def read_airflow_config() -> AirflowConfig:
    """Read airflow.cfg and its environment variables.

    https://airflow.apache.org/docs/apache-airflow/stable/configurations-ref.html
    """
    from airflow import __version__

    from airflow_incident.airflow_bridge.compat import conf

    major = int(__version__.split(".", 1)[0])
    pages, processor = ("api", "dag_processor") if major >= 3 else ("webserver", "core")  # noqa: PLR2004
    named = _named(conf)
    # Airflow takes a millisecond to say of each of thirty that it is not set.
    mentioned = (o.name for o in options_in("config") if any(name.startswith(o.name) for name in named))
    options = {name: conf.get(CONFIG_SECTION, name, fallback="") for name in mentioned}
    return AirflowConfig(
        base_url=_address(conf.get(pages, "base_url", fallback="")),
        major=major,
        overtime=_seconds(conf.get("core", "task_success_overtime", fallback=""), default=20.0),
        batch_timeout=_seconds(conf.get(processor, "dag_file_processor_timeout", fallback=""), default=50.0),
        config={name: value for name, value in options.items() if value},
    )


def unknown_options() -> list[Problem]:
    """Tell what our section of airflow.cfg has, or its environment variables name, and no option is called."""
    from airflow_incident.airflow_bridge.compat import conf

    options = {option.name for option in options_in("config")}
    by_command = {f"{name}{ending}" for name in options for ending in ("_cmd", "_secret")}
    return unknown_settings(sorted(_named(conf) - by_command), "config")


def _named(conf: Any) -> set[str]:
    """Return what is set in our section, also as `<option>_cmd` or `<option>_secret`."""
    prefix = f"AIRFLOW__{CONFIG_SECTION.upper()}__"
    named = {name.removeprefix(prefix).lower() for name in os.environ if name.startswith(prefix)}
    return named.union(conf.options(CONFIG_SECTION)) if conf.has_section(CONFIG_SECTION) else named


def _seconds(text: str, *, default: float) -> float:
    """Read a limit of Airflow's; one that makes no sense must not cost the report that it bounds."""
    try:
        seconds = float(text)
    except ValueError:
        return default
    return seconds if seconds > 0 else default


def _address(text: str) -> str | None:
    """Read the address of Airflow's pages, which goes into links: without user, password, query or fragment.

    One that is malformed, or a path only, leads nowhere, nor does one of which nobody can say where its password ends.
    """
    text = text.strip()
    if "://" not in text and not text.startswith("//"):
        text = f"//{text}"
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return None
    if not parts.hostname:
        return None
    scheme = parts.scheme or ("http" if is_loopback(parts.hostname) else "https")
    netloc = parts.netloc.rpartition("@")[2]
    address = parts._replace(scheme=scheme, netloc=netloc, query="", fragment="").geturl()
    return None if "@" in address else address
