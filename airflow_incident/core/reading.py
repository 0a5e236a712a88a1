"""Values as people write them, in a DAG file, a form or a line of airflow.cfg."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_incident.constants import CHOICES

LONGEST = 60
"""Characters of a wrong value that are shown."""


def read_text(value: Any) -> str:
    """Read a text; a string of an enumeration has another one for whoever reads it."""
    return str.__str__(value) if isinstance(value, str) else str(value)


def read_choice(name: str, value: str) -> str:
    """Read what is chosen for an option, however it is cased or spaced.

    :raises ValueError: naming what may be chosen.
    """
    text = read_text(value).encode("utf-8", "replace").decode().strip()
    choice = text.lower().replace(" ", "_").replace("-", "_")
    if choice not in CHOICES[name]:
        shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
        raise ValueError(f"{shown!r} is unknown; use one of: {', '.join(CHOICES[name])}")
    return choice


def read_mapping(value: Any) -> dict[Any, Any]:
    """Read a mapping, or the JSON of one as forms and airflow.cfg hold it.

    :raises ValueError: if it is neither.
    :raises RecursionError: if it is nested too deeply.
    """
    parsed = json.loads(value) if isinstance(value, str) else value
    if not isinstance(parsed, Mapping):
        raise ValueError('must be a JSON object, like {"…": "…"}')  # noqa: TRY004 -- whoever asks knows one kind of error
    return dict(parsed)


def nearest(name: str, known: Sequence[str]) -> str | None:
    """Return the known name that was probably meant."""
    from difflib import get_close_matches  # only where something is wrong

    return next(iter(get_close_matches(name.lower(), known, n=1)), None)
