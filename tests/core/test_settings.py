"""Options and the one merge of them."""

import pytest

from airflow_incident.core.settings import EVERYWHERE, OPTIONS, Settings, merge, options_in
from airflow_incident.errors import Problem

SAMPLES = {
    "enabled": ("false", False),
    "scope": ("task", "task"),
    "channel": ("alert", "alert"),
    "resolve": ("always", "always"),
    "mode": ("test", "test"),
    "visibility": ("private", "private"),
    "status": ("fixing", "fixing"),
    "exception_detail": ("traceback", "traceback"),
    "log_lines": ("7", 7),
    "refail": ("new", "new"),
    "custom_fields": ('{"F": {"value_text": "x"}}', {"F": {"value_text": "x"}}),
    "roles": ('{"R": "bob@example.com"}', {"R": "bob@example.com"}),
    "journal": ("false", False),
    "auto_open": (" On ", True),
    "auto_resolve": ("1", True),
    "import_errors": ("t", True),
    "import_error_minutes": (" 10", 10),
    "auto_include": ("a_*, b_?,, c", ("a_*", "b_?", "c")),
    "auto_exclude": ("x", ("x",)),
    "storm_limit": ("7", 7),
    "storm_limit_per_dag": (" 0 ", 0),
    "api_version": ("v2", "v2"),
}


def merged(**sources):
    return merge(**{"arguments": {}, "connection": {}, "config": {}} | sources)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_read_wherever_it_may_be_set(name):
    """Argument, rule, connection and airflow.cfg, as the table says, in the forms that these places hold."""
    raw, value = SAMPLES.get(name, ("some text", "some text"))
    sources = ("arguments", "routes", "connection", "config")
    for place, source in zip(EVERYWHERE, sources, strict=True):
        settings, problems, _ = merged(**{source: {name: raw}})
        assert problems == []
        assert getattr(settings, name) == (value if place in OPTIONS[name].places else getattr(Settings(), name))


def test_the_nearest_place_wins():
    """Argument before rule before connection before airflow.cfg before the default; empty means not set."""
    places = {"config": {"severity": "C"}}
    assert merged(**places)[0].severity == "C"
    places["connection"] = {"severity": "B"}
    assert merged(**places)[0].severity == "B"
    places["routes"] = {"severity": "R"}
    assert merged(**places)[0].severity == "R"
    places["arguments"] = {"severity": "A"}
    assert merged(**places)[0].severity == "A"
    assert merged(arguments={"severity": None}, connection={"severity": ""}, config={})[0].severity is None


def test_it_is_told_which_place_has_won():
    """Only what is set has an origin, and only a place that may set it."""
    _, _, found = merged(
        arguments={"severity": "A", "mode": None, "proxy": "http://p"},
        connection={"severity": "B", "mode": "test", "scope": "task"},
        config={"mode": "real", "scope": "dag", "unknown": "x"},
    )
    assert found == {"severity": "argument", "mode": "connection", "scope": "config"}


def test_every_wrong_value_is_told_at_once_by_its_label():
    """The form's label for the connection, and the name in its place for the others."""
    _, problems, _ = merged(
        arguments={"scope": "week"},
        connection={"visibility": "secret", "custom_fields": "{", "roles": "[]"},
        config={"enabled": "perhaps"},
    )
    assert [p.where for p in problems] == [
        "Enabled ([incident_io] enabled in airflow.cfg)",
        "Scope (argument scope)",
        "Visibility",
        "Custom fields",
        "Roles",
    ]
    assert problems[1] == Problem(
        "Scope (argument scope)", "'week' is unknown; use one of: dag, run, task, task_instance", "scope", "argument"
    )
    assert "is not valid JSON" in problems[3].what
    assert "must be a JSON object" in problems[4].what


@pytest.mark.parametrize("name", ["scope", "exception_detail"])
def test_what_cannot_be_used_gives_way_to_the_next_place(name):
    """A slip costs itself: what another place says holds."""
    other = OPTIONS[name].choices[-1]
    settings, problems, origins = merged(arguments={name: "week"}, config={name: other})
    assert getattr(settings, name) == other
    assert [(p.option, p.place) for p in problems] == [(name, "argument")]
    assert origins == {name: "config"}


def test_a_slip_never_shows_an_incident_to_more_people():
    """An unreadable visibility is private and an unreadable mode is incident.io's own, real, whatever another place says."""
    wrong = {"visibility": "privat", "mode": "tset"}
    settings, problems, _ = merged(connection=wrong, config={"visibility": "public", "mode": "test"})
    assert (settings.visibility, settings.mode) == ("private", "real")
    assert [p.option for p in problems] == ["mode", "visibility"]


def test_the_table_is_complete():
    """Each option has what the form, airflow.cfg and the reference show of it."""
    for option in OPTIONS.values():
        assert option.label
        assert option.help.endswith(".")
        assert option.places
        assert option.default == getattr(Settings(), option.name)
    assert {o.name for o in options_in("connection")} >= {"severity", "proxy", "ca_bundle"}
