"""What Airflow discovers: connection type and form, notifier, options. Built from the one table of options."""

from __future__ import annotations

from typing import Any

from airflow_incident.constants import CONFIG_SECTION, CONN_TYPE, VERSION
from airflow_incident.core.account import DEFAULT_BASE_URL
from airflow_incident.core.settings import Option, options_in

_HIDDEN = ["login", "port", "schema", "extra"]
_RELABELED = {"host": "Base URL", "password": "API key"}
_PLACEHOLDERS = {"host": DEFAULT_BASE_URL, "password": "incident.io > Settings > API keys"}


def get_provider_info() -> dict[str, Any]:
    """Describe this provider.

    https://airflow.apache.org/docs/apache-airflow-providers/howto/create-custom-providers.html
    """
    return {
        "package-name": "airflow-incident",
        "name": "incident.io",
        "description": "Opens an incident at `incident.io <https://incident.io>`__ when a DAG or a task fails.",
        "versions": [VERSION],
        "connection-types": [
            {
                "connection-type": CONN_TYPE,
                "hook-class-name": "airflow_incident.hooks.IncidentHook",
                "hook-name": "incident.io",
                "conn-fields": {option.name: _declared(option) for option in options_in("connection")},
                "ui-field-behaviour": {
                    "hidden-fields": _HIDDEN,
                    "relabeling": _RELABELED,
                    "placeholders": _PLACEHOLDERS,
                },
            }
        ],
        "integrations": [
            {
                "integration-name": "incident.io",
                "external-doc-url": "https://docs.incident.io",
                "how-to-guide": [
                    f"/docs/how-to/{page}.md" for page in ("installing", "recovery", "sensor", "zero-touch")
                ],
                "tags": ["service"],
            }
        ],
        "hooks": _module("hooks"),
        "operators": _module("operators"),
        "sensors": _module("sensors"),
        "triggers": _module("triggers"),
        "notifications": [
            "airflow_incident.notifications.IncidentNotifier",
            "airflow_incident.notifications.RecoveryNotifier",
        ],
        "extra-links": ["airflow_incident.links.IncidentLink"],
        "config": {
            CONFIG_SECTION: {
                "description": "Options of the airflow-incident provider.",
                "options": {option.name: _configured(option) for option in options_in("config")},
            }
        },
    }


def _module(name: str) -> list[dict[str, Any]]:
    return [{"integration-name": "incident.io", "python-modules": [f"airflow_incident.{name}"]}]


def _declared(option: Option) -> dict[str, Any]:
    """Declare a form field, for Airflow 3.2 and newer."""
    schema: dict[str, Any] = {"type": ["string", "null"]}
    if option.choices:
        schema["enum"] = list(option.choices)
    if option.secret:
        schema["format"] = "password"
    return {"label": option.label, "description": _explained(option), "schema": schema}


def _explained(option: Option) -> str:
    """Say what an option does, in a form that knows no markdown."""
    return option.help.replace("`", "")


def _configured(option: Option) -> dict[str, Any]:
    """Declare an option of airflow.cfg; its default is ours to apply, for a connection goes before it."""
    return {
        "description": option.help,
        "version_added": option.since,
        "type": "boolean" if isinstance(option.default, bool) else "string",
        "example": ", ".join(option.choices) or None,
        "default": str(option.default) if isinstance(option.default, bool) else None,
        "sensitive": option.secret,
    }


def form_fields() -> dict[str, Any]:
    """Build the form's own fields, for Airflow before 3.2."""
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
    from wtforms import PasswordField, StringField  # only those Airflows bring both

    return {
        option.name: (PasswordField if option.secret else StringField)(
            option.label,
            description=_explained(option) + (f" One of: {', '.join(option.choices)}." if option.choices else ""),
            widget=BS3PasswordFieldWidget() if option.secret else BS3TextFieldWidget(),
        )
        for option in options_in("connection")
    }


def form_layout() -> dict[str, Any]:
    """Label and hide the standard fields, for Airflow before 3.2."""
    return {"hidden_fields": _HIDDEN, "relabeling": _RELABELED, "placeholders": _PLACEHOLDERS}
