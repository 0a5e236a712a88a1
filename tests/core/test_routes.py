"""Rules: which hold, which of them sets what, and what a wrong one costs."""

from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_incident.constants import NEVER_WEAKER
from airflow_incident.core.failure import Failure
from airflow_incident.core.routes import MATCHES, OF_THE_RUN, facts_of, read_rules, read_setting, route
from airflow_incident.core.settings import OPTIONS, ROUTED_TEXTS, options_in

ROOT = Path(__file__).parents[2]
ORDERS = Failure("orders", "r1", task_id="load", run_type="scheduled", tags=("tier-1", "eu"), owners=("data", "ml"))


def routed(*rules, failure=ORDERS):
    found, problems = read_rules(list(rules), {})
    return route(found, failure).options, [f"{problem}" for problem in problems]


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        (None, True),
        ({}, True),
        ({"dag_id": "orders"}, True),
        ({"dag_id": "Orders"}, False),
        ({"dag_id": "order"}, False),
        ({"dag_id": "ord*"}, True),
        ({"dag_id": "*"}, True),
        ({"dag_id": "[nop]rders"}, True),
        ({"dag_id": "order?"}, True),
        ({"dag_id": "orders\n"}, False),
        ({"dag_id": ["x", "y", "o*s"]}, True),
        ({"tags": "tier-1"}, True),
        ({"tags": "tier-?"}, True),
        ({"tags": ["tier-2", "us"]}, False),
        ({"tags": "tier-1, eu"}, False),
        ({"owners": "ml"}, True),
        ({"owners": "airflow"}, False),
        ({"task_id": "load"}, True),
        ({"run_type": "scheduled"}, True),
        ({"run_type": ["manual", "backfill"]}, False),
        ({"dag_id": "orders", "tags": "tier-1", "owners": "d*", "task_id": "*", "run_type": "*"}, True),
        ({"dag_id": "orders", "tags": "tier-2"}, False),
    ],
)
def test_a_rule_holds_if_each_thing_it_looks_at_does(match, holds):
    """Any of several globs, any of several tags, each of the keys."""
    options, problems = routed({"match": match, "set": {"severity": "Major"}})
    assert (options, problems) == ({"severity": "Major"} if holds else {}, [])


@pytest.mark.parametrize("key", MATCHES)
def test_what_is_not_known_matches_nothing(key):
    """Not even what matches everything: a missed deadline has no tags."""
    nothing = Failure("", "", tags=(), owners=())._replace(dag_id="x")
    assert bool(routed({"match": {key: "*"}, "set": {"severity": "x"}}, failure=nothing)[0]) == (key == "dag_id")


def test_the_first_to_set_an_option_wins_and_later_ones_fill_in():
    rules, _ = read_rules(
        [
            {"match": {"tags": "tier-2"}, "set": {"severity": "Minor"}},
            {"match": {"tags": "tier-1"}, "set": {"severity": "Critical", "custom_fields": {"Team": "A"}}},
            {"set": {"severity": "Major", "custom_fields": {"Tier": "1"}, "channel": "alert", "enabled": False}},
        ],
        {(1,): 4, (2,): 7},
    )
    found = route(rules, ORDERS)._replace(file="/r.yaml")
    wanted = {"severity": "Critical", "custom_fields": {"Team": "A"}, "channel": "alert", "enabled": False}
    assert found.options == wanted
    assert {name: found.origin(name) for name in wanted} == {
        "severity": "rule 2, line 4 of /r.yaml",
        "custom_fields": "rule 2, line 4 of /r.yaml",
        "channel": "rule 3, line 7 of /r.yaml",
        "enabled": "rule 3, line 7 of /r.yaml",
    }


WORDS = st.text(alphabet="ab*?[]-!\n.", min_size=1, max_size=5)
NAMES = st.text(alphabet="ab-.\n", min_size=1, max_size=4)
SOME = st.lists(NAMES, max_size=3).map(tuple)
FAILURES = st.builds(
    Failure,
    dag_id=NAMES,
    run_id=st.just("r"),
    tags=SOME,
    owners=SOME,
    task_id=st.none() | NAMES,
    run_type=st.none() | NAMES,
)
VALUES = {"severity": st.sampled_from("ABC"), "incident_type": st.sampled_from("ABC"), "status": st.sampled_from("ABC")}
RULES = st.lists(
    st.fixed_dictionaries(
        {"set": st.fixed_dictionaries({}, optional=VALUES)},
        optional={"match": st.dictionaries(st.sampled_from(MATCHES), WORDS | st.lists(WORDS, min_size=1, max_size=3))},
    ),
    max_size=6,
)


@settings(max_examples=400)
@given(RULES, FAILURES)
def test_it_is_what_a_slow_and_plain_reading_says(given_rules, failure):
    """Of all rules in their order, with globs as Python's own module has them."""
    expected = {}
    for rule in given_rules:
        facts = facts_of(failure)
        globs = {key: [each] if isinstance(each, str) else each for key, each in rule.get("match", {}).items()}
        if all(any(fnmatchcase(v, g) for v in facts[key] for g in each) for key, each in globs.items()):
            expected = rule["set"] | expected
    rules, problems = read_rules(given_rules, {})
    assert problems == []
    assert route(rules, failure).options == expected


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates() | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=10,
)
NEARLY = st.lists(
    st.dictionaries(
        st.sampled_from(["match", "set", "mach"]),
        st.dictionaries(st.sampled_from([*MATCHES, *OPTIONS, *ROUTED_TEXTS, "severty"]), ANYTHING, max_size=4)
        | ANYTHING,
        max_size=3,
    ),
    max_size=3,
)


@settings(max_examples=400)
@given(ANYTHING | NEARLY)
def test_nothing_that_a_file_may_hold_raises(document):
    """What is wrong is told, and what is left can be matched and merged."""
    from airflow_incident.core.settings import merge

    rules, problems = read_rules(document, {})
    assert all(str(problem) for problem in problems)
    _, wrong, _ = merge(routes=route(rules, ORDERS).options)
    assert wrong == []


@pytest.mark.parametrize(
    ("rule", "kept", "problem"),
    [
        ({"match": {"tag": "x"}, "set": {"severity": "A"}}, {}, "match.tag: is unknown; did you mean tags?"),
        ({"mach": {"tags": "x"}, "set": {"severity": "A"}}, {}, "mach: is unknown; did you mean match?"),
        ({"match": {"tags": []}, "set": {"severity": "A"}}, {}, "match.tags: must be a text or a list of texts"),
        ({"match": {"tags": None}, "set": {"severity": "A"}}, {}, "match.tags: must be a text or a list of texts"),
        ({"match": {"tags": True}, "set": {"severity": "A"}}, {}, "yes and no need quotes"),
        ({"match": "orders", "set": {"severity": "A"}}, {}, "match: must say what to look at: dag_id, tags"),
        ({"match": {}}, {}, "set: must say what to set"),
        ({"set": ["severity"]}, {}, "set: must say what to set"),
        (["severity"], {}, "must be a rule, with the keys match and set"),
        ({"set": {"severty": "A", "status": "B"}}, {"status": "B"}, "set.severty: is unknown and has no effect; did you mean severity?"),
        ({"set": {"conection": "A"}}, {}, "is unknown and has no effect"),
        ({"set": {"proxy": "A"}}, {}, "set.proxy: has no effect there; proxy is set in the connection or under [incident_io]"),
        ({"set": {"severity": None, "status": "B"}}, {"status": "B"}, "set.severity: is empty, and sets nothing"),
        ({"set": {"severity": 1}}, {}, "set.severity: must be a string, not int"),
        ({"set": {"enabled": "no"}}, {}, "set.enabled: must be True or False, not str"),
        ({"set": {"log_lines": -1}}, {}, "set.log_lines: must be a whole number, 0 or more"),
        ({"set": {"scope": "dags"}}, {}, "set.scope: 'dags' is unknown; use one of: dag, run, task, task_instance"),
        ({"set": {"conn_id": 5}}, {}, "set.conn_id: must be the ID of a connection"),
        ({"set": {"custom_fields": {"A": "x", "B": None}}}, {"custom_fields": {"A": "x"}}, "set.custom_fields: 'B' needs a text"),
        ({"set": {"roles": ["bob"]}}, {}, "set.roles: must be a dict"),
        ({"set": {"visibility": "privat"}}, {"visibility": "private"}, "set.visibility: 'privat' is unknown"),
        ({"set": {"mode": "tset"}}, {"mode": "real"}, "set.mode: 'tset' is unknown"),
    ],
)  # fmt: skip
def test_what_is_wrong_costs_itself(rule, kept, problem):
    """A rule of which it is unclear when it holds is left out; a value, alone. Others count."""
    options, problems = routed(rule, {"set": {"slack_team_id": "T"}})
    assert options == kept | {"slack_team_id": "T"}
    (told,) = problems
    assert told.startswith("line 1, rule 1")
    assert problem in told


@pytest.mark.parametrize("match", [{"tag": "x"}, {"tags": "no such tag", "dag": "x"}, {"dag_id": 5}])
def test_a_wrong_rule_never_shows_an_incident_to_more_people(match):
    """What it may have been meant for is private and real all the same; nothing else of it counts."""
    options, _ = routed({"match": match, "set": {"visibility": "private", "mode": "real", "severity": "A"}})
    known = {key: value for key, value in match.items() if key == "tags"}
    assert options == ({} if known else dict(NEVER_WEAKER))
    options, _ = routed({"match": match, "set": {"visibility": "public", "mode": "test", "enabled": False}})
    assert options == {}


@pytest.mark.parametrize("name", OF_THE_RUN)
def test_what_the_dag_s_own_callback_must_agree_on_cannot_depend_on_the_task(name):
    """It knows no task, and would open a second incident for one failure."""
    value = {"channel": "alert", "scope": "task"}.get(name, "x")
    options, problems = routed({"match": {"task_id": "*"}, "set": {name: value, "severity": "A"}})
    assert options == {"severity": "A"}
    assert "cannot depend on task_id" in problems[0]


def test_whatever_may_be_an_argument_may_be_set_by_a_rule():
    """And whether anything is opened at all; not what a connection alone should have."""
    arguments = {option.name for option in options_in("argument")}
    assert {option.name for option in options_in("route")} == arguments | {"enabled"}
    assert not {"proxy", "alert_source_token", "journal", "routes_file"} & arguments
    assert [read_setting(name, "{{ dag.dag_id }}") for name in ROUTED_TEXTS] == ["{{ dag.dag_id }}"] * 3


def _documents():
    import re

    import yaml

    page = (ROOT / "docs" / "how-to" / "routes.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    return [*blocks, (ROOT / "docs" / "routes.yaml").read_text()], yaml.safe_load


def test_the_examples_of_the_documents_can_be_used():
    """Each block by itself, and all in one file."""
    texts, load = _documents()
    for text in texts:
        rules, problems = read_rules(load(text), {})
        assert problems == []
        assert rules
    whole = load(texts[-1])
    assert all(rule in whole for text in texts[1:-1] for rule in load(text))
