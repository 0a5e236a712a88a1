"""Words that every room may know. A DAG file that is parsed loads this, so nothing is imported and nothing computed."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = "0.2.0"

CONN_TYPE = "incident_io"
CONFIG_SECTION = "incident_io"
DEFAULT_CONN_ID = "incident_io_default"

Scope = Literal["dag", "run", "task", "task_instance"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
TASK_SCOPES = frozenset({"task", "task_instance"})
"""The scopes at which an incident stands for less than a run."""
TAG = "incident:"
"""What a DAG's tag that is meant for this package begins with."""

BACKFILL = "backfill"
"""Airflow's name of the runs that somebody has asked for to fill a gap."""
WELL = frozenset({"success", "skipped", "removed"})
"""Airflow's names of the states of a task instance that is over and did not fail."""
FAILED = frozenset({"failed", "upstream_failed"})
"""Its names of those that did."""

CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "scope": SCOPES,
        "channel": ("incident", "alert"),
        "mode": ("real", "test"),
        "visibility": ("public", "private"),
        "refail": ("join", "new"),
        "resolve": ("if_unclaimed", "always"),
        "exception_detail": ("type", "message", "traceback"),
        "api_version": ("v1", "v2", "auto"),
    }
)
"""The options with a closed choice, and what may be chosen."""
NEVER_WEAKER: Mapping[str, str] = MappingProxyType({"visibility": "private", "mode": "real"})
"""What a value counts as that cannot be used, where to leave it out could show more to more people, or tell fewer."""
SWITCHES = ("auto_open", "auto_resolve")
"""The options that turn zero touch on."""

VALUE_KINDS = (
    "id",
    "value_catalog_entry_id",
    "value_link",
    "value_numeric",
    "value_option_id",
    "value_text",
    "value_timestamp",
)
"""What one value of a custom field may be given as; each is text on the wire."""
PERSON_KINDS = ("id", "email", "slack_user_id")
"""How a person may be named."""
