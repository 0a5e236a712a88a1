"""Jinja templates of people: title, text, runbook, values of custom fields and roles. None of them stops a failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_incident.airflow_bridge.channel import within
from airflow_incident.airflow_bridge.details import page
from airflow_incident.airflow_bridge.reading import render
from airflow_incident.core.markdown import MESSAGE_LENGTH, shorten
from airflow_incident.core.text import log_line, safe_str
from airflow_incident.core.timing import DETAIL_PATIENCE
from airflow_incident.errors import AirflowTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from airflow_incident.airflow_bridge.config import ConnectionConfig
    from airflow_incident.core.failure import Failure
    from airflow_incident.core.text import Redact


class Templates:
    """Renders with a context; what is broken costs only itself, is logged, and stands in `notes`.

    :param rendered: Places whose values Airflow has rendered already, as it does an operator's arguments: what a
        template has made is none itself.
    """

    def __init__(self, context: Any, redact: Redact, log: Any, *, rendered: Collection[str] = ()) -> None:
        self._context = context
        self._redact = redact
        self._log = log
        self._rendered = rendered
        self.notes: list[str] = []

    def text(self, what: str, template: Any, *, instead: str = "The default text stands in.") -> str | None:
        """Render a text; None where there is none, or where it is broken."""
        return None if template is None else self._tried(what, lambda: render(str(template), self._context), instead)

    def runbook(self, failure: Failure, config: ConnectionConfig) -> Failure:
        """Render the runbook's address, which counts more than what the DAG's documentation names."""
        given = config.settings.runbook
        if config.origins.get("runbook") not in self._rendered:
            given = self.text("runbook", given, instead="It is left out.")
        if not given or not given.strip():
            return failure
        address = page(given)
        if not address:
            self._note("The runbook is no address of a page", given, "It is left out.")
        return failure._replace(runbook=address or failure.runbook)

    def fields(self, config: ConnectionConfig) -> ConnectionConfig:
        """Render the values of custom fields and roles, which are plain in connection and airflow.cfg.

        What is empty then is left out.
        """
        kept: dict[str, Any] = {}
        try:
            with within(DETAIL_PATIENCE):
                for name in ("custom_fields", "roles"):
                    entries, place = getattr(config.settings, name), config.origins.get(name)
                    if not entries or place in {"connection", "config"}:
                        continue
                    kept[name] = {}
                    for entry, value in entries.items():
                        what = f"{name}[{entry!r}]"
                        made = self._tried(what, lambda: self._value(what, value, place), "It is left out.")  # noqa: B023 -- called here and now
                        if made is not None:
                            kept[name][entry] = made
        except AirflowTimeoutError as error:
            self._note("The templates of custom fields and roles could not all be rendered", str(error), "")
        return replace(config, settings=replace(config.settings, **kept)) if kept else config

    def _value(self, what: str, value: Any, place: str | None) -> Any:
        """Render one value, whatever is nested in it; None if there is nothing in it."""
        if isinstance(value, Mapping):
            entries = {key: self._value(what, each, place) for key, each in value.items()}
            return {key: each for key, each in entries.items() if each is not None} or None
        if isinstance(value, list | tuple):
            return [each for each in (self._value(what, each, place) for each in value) if each is not None] or None
        if not isinstance(value, str):
            return value
        if "{" in value and place not in self._rendered:
            value = self.text(what, value, instead="It is left out.") or ""
        return value.strip() or None

    def _tried(self, what: str, make: Callable[[], Any], instead: str) -> Any:
        try:
            return make()
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- a broken template still opens an incident
            why = f"{type(error).__name__}: {safe_str(error)}"
            self._note(f"The template of {what} could not be rendered", why, instead)
            return None

    def _note(self, what: str, why: str, instead: str) -> None:
        """Say it in a few words in the incident, and why in the log."""
        self.notes.append(f"{what}; Airflow's log says why.")
        why = shorten(log_line(self._redact(why)), MESSAGE_LENGTH)
        self._log.warning("incident.io: %s (%s). %s", what, why, instead)
