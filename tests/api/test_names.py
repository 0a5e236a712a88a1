"""Names become IDs: a prepared account answers, its requests are checked against the official document."""

import json
import urllib.parse
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from airflow_incident.api.body import CreateIncident
from airflow_incident.api.calls import CallSequence, Directory
from airflow_incident.api.exchange import RequestLimits, Response, execute
from airflow_incident.api.names import find_severity, lookup_ids, lowest_severity
from airflow_incident.api.payload import refusal
from airflow_incident.errors import (
    ConfigurationError,
    IncidentIoError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TransportError,
    UnexpectedResponseError,
    UnknownNameError,
)
from tests import contract

AT = "2026-11-23T09:00:00Z"
DATES = {"created_at": AT, "updated_at": AT}


def ulid(number):
    return f"01{number:024d}"


def severity(number, name, rank):
    return {"id": ulid(number), "name": name, "description": "d", "rank": rank, **DATES}


def incident_type(number, name, *, private=False):
    about = {"is_default": False, "private_incidents_only": private, "create_in_triage": "optional", "description": "d"}
    return {"id": ulid(number), "name": name, **about, **DATES}


def status(number, name, category, rank):
    return {"id": ulid(number), "name": name, "category": category, "rank": rank, "description": "d", **DATES}


def role(number, name):
    about = {"shortform": "r", "description": "d", "instructions": "i", "role_type": "custom"}
    return {"id": ulid(number), "name": name, **about, **DATES}


def custom_field(number, name, field_type, **more):
    return {"id": ulid(number), "name": name, "description": "d", "field_type": field_type, **more, **DATES}


def option(number, of, value):
    return {"id": ulid(number), "custom_field_id": ulid(of), "value": value, "sort_key": number}


class Account:
    """An incident.io of prepared lists, which counts what it is asked and can refuse a path."""

    def __init__(self):
        self.clock = 0.0
        self.asked = []
        self.refusals = {}
        self.directory = Directory(lambda: self.clock)
        self.lists = {
            "/v1/severities": [severity(2, "Major", 2), severity(1, "Minor", 1), severity(3, "Critical", 3)],
            "/v1/incident_types": [incident_type(10, "Default"), incident_type(11, "Security", private=True)],
            "/v1/incident_statuses": [
                status(20, "Triage", "triage", 0),
                status(22, "Under control", "live", 2),
                status(21, "Investigating", "live", 1),
                status(23, "Resolved", "closed", 3),
                status(24, "Reviewing", "learning", 4),
            ],
            "/v2/incident_roles": [role(30, "Incident Lead"), role(31, "Scribe")],
            "/v2/custom_fields": [
                custom_field(40, "Affected team", "single_select"),
                custom_field(41, "Regions", "multi_select"),
                custom_field(42, "Ticket", "link"),
                custom_field(43, "Notes", "text"),
                custom_field(44, "Rows lost", "numeric"),
                custom_field(45, "Service", "single_select", catalog_type_id=ulid(90)),
                custom_field(46, "Services", "multi_select", catalog_type_id=ulid(90)),
            ],
        }
        self.options = {
            ulid(40): [option(1000 + n, 40, f"Team {n}") for n in range(300)],
            ulid(41): [option(2000, 41, "EU"), option(2001, 41, "US")],
        }

    def answer(self, request):
        contract.check_request(request.method, request.path, None, urllib.parse.urlencode(request.query or {}))
        self.asked.append(request.path)
        if request.path in self.refusals:
            refusal = self.refusals[request.path]
            return refusal if isinstance(refusal, Response | IncidentIoError) else Response(200, {}, refusal)
        body = self.page(**request.query) if request.query else {request.path[4:]: self.lists[request.path]}
        contract.check_response("GET", request.path, 200, body)
        return Response(200, {}, json.dumps(body).encode())

    def page(self, custom_field_id, page_size, after=""):
        rest = [row for row in self.options[custom_field_id] if row["id"] > after]
        more = {"after": rest[page_size - 1]["id"]} if len(rest) > page_size else {}
        return {"custom_field_options": rest[:page_size], "pagination_meta": {"page_size": page_size, **more}}

    def run(self, steps):
        terms = RequestLimits(100.0, lambda: 0.0, lambda: datetime(2026, 11, 23, tzinfo=UTC), lambda: 0.0, [])
        conversation = execute(CallSequence(lambda _: steps()), terms)
        answer = None
        try:
            while True:
                answer = self.answer(conversation.send(answer))
        except StopIteration as end:
            return end.value

    def lookup_ids(self, api_version="v1", **wanted):
        return self.run(lambda: lookup_ids(wanted, self.directory, api_version=api_version))

    def fields(self, api_version="v1", **wanted):
        """Resolve what must be found, and check it as the body of a create."""
        found = self.lookup_ids(api_version, **wanted)
        assert (found.problems, found.missing) == ([], {})
        body = {"idempotency_key": "k", "visibility": "public", **found.fields}
        contract.check_request("POST", f"/{api_version}/incidents", body)
        if api_version == "v1":
            CreateIncident.model_validate(body)
        return found.fields

    def values(self, name, value):
        (entry,) = self.fields(custom_fields={name: value})["custom_field_entries"]
        return entry["values"]

    def problem(self, api_version="v1", **wanted):
        """Resolve what cannot be, and return what is told."""
        found = self.lookup_ids(api_version, **wanted)
        assert found.fields == {}
        (problem,) = found.problems
        return str(problem)


@pytest.fixture
def account():
    return Account()


@pytest.mark.parametrize("wanted", ["Major", "major", " MAJOR ", ulid(2)])
def test_a_severity_is_found_by_name_in_any_case_and_by_id(account, wanted):
    assert account.fields(severity=wanted) == {"severity_id": ulid(2)}


def test_what_is_an_id_is_not_looked_up(account):
    """Nor is a field or a role whose key and value say all."""
    found = account.fields(
        severity=ulid(2),
        incident_type=ulid(10),
        custom_fields={ulid(43): {"value_text": "x"}, ulid(41): [{"value_option_id": ulid(2000)}], ulid(44): []},
        roles={ulid(30): "bob@example.com"},
        status="Fixing",
    )
    assert account.asked == []
    assert found["status"] == "fixing"
    assert found["incident_role_assignments"] == [
        {"incident_role_id": ulid(30), "assignee": {"email": "bob@example.com"}}
    ]


def test_an_id_of_another_form_is_found_in_the_list(account):
    """The form of IDs may change at any time."""
    account.lists["/v1/severities"][0]["id"] = "sev_2"
    assert account.fields(severity="sev_2") == {"severity_id": "sev_2"}


def test_what_is_not_wanted_is_not_looked_up(account):
    assert account.fields(severity=None, incident_type="", custom_fields={}, roles=None) == {}
    assert account.asked == []


def test_an_unknown_name_is_told_with_the_known_ones(account):
    found = account.lookup_ids(severity="Majr", incident_type="Default")
    assert found.fields == {"incident_type_id": ulid(10)}
    error = refusal(found.problems)
    assert isinstance(error, UnknownNameError)
    assert (error.kind, error.name, error.known) == ("severity", "Majr", ("Major", "Minor", "Critical"))
    assert "Severity: there is no severity 'Majr'; known: Major, Minor, Critical" in str(error)


def test_an_unknown_role_is_told(account):
    assert account.problem(roles={"Driver": "bob@example.com"}) == (
        "Roles: there is no role 'Driver'; known: Incident Lead, Scribe"
    )


def test_of_two_names_that_differ_in_case_the_exact_one_is_meant(account):
    """And a third spelling may mean either."""
    account.lists["/v1/severities"].append(severity(4, "MAJOR", 4))
    assert account.fields(severity="Major") == {"severity_id": ulid(2)}
    assert account.fields(severity="MAJOR") == {"severity_id": ulid(4)}
    told = account.problem(severity="major")
    assert f"several are called 'major'; use the ID of one: Major ({ulid(2)}), MAJOR ({ulid(4)})" in told
    problems = account.lookup_ids(severity="major").problems
    assert problems
    assert not isinstance(refusal(problems), UnknownNameError)


def test_a_private_type_says_so(account):
    """By its ID only where the list is there already: nothing is looked up for it."""
    assert not account.lookup_ids(incident_type=ulid(11)).private_only
    assert account.lookup_ids(incident_type="security").private_only
    assert account.lookup_ids(incident_type=ulid(11)).private_only
    assert not account.lookup_ids(incident_type="Default").private_only


@pytest.mark.parametrize(
    ("wanted", "said"),
    [("CLOSED", "closed"), ("Resolved", "closed"), (ulid(20), "triage"), (ulid(21), "investigating")],
)
def test_a_status_becomes_a_word_of_v1(account, wanted, said):
    assert account.fields(status=wanted) == {"status": said}


def test_what_v1_cannot_say_is_told(account):
    for name in ("Under control", "Reviewing"):
        assert f"'{name}' cannot be said in v1; use one of: triage" in account.problem(status=name)


@pytest.mark.parametrize(
    ("wanted", "number"),
    [("under CONTROL", 22), (ulid(24), 24), ("investigating", 21), ("fixing", 21), ("closed", 23), ("triage", 20)],
)
def test_v2_takes_the_account_s_own_statuses_and_v1_s_words(account, wanted, number):
    """A word that no status bears means the first of its category."""
    assert account.fields("v2", status=wanted) == {"incident_status_id": ulid(number)}


def test_a_word_without_a_status_of_its_category_is_unknown(account):
    assert "there is no status 'declined'" in account.problem("v2", status="declined")


@pytest.mark.parametrize(
    ("name", "given", "values"),
    [
        ("affected TEAM", "team 299", [{"value_option_id": ulid(1299)}]),
        ("Affected team", ulid(1001), [{"value_option_id": ulid(1001)}]),
        ("Regions", ["EU", "us"], [{"value_option_id": ulid(2000)}, {"value_option_id": ulid(2001)}]),
        ("Regions", ("EU",), [{"value_option_id": ulid(2000)}]),
        ("Ticket", "https://example.com/1", [{"value_link": "https://example.com/1"}]),
        ("Notes", 7, [{"value_text": "7"}]),
        (ulid(43), "words", [{"value_text": "words"}]),
        ("Rows lost", 12, [{"value_numeric": "12"}]),
        ("Rows lost", 0.25, [{"value_numeric": "0.25"}]),
        ("Rows lost", Decimal("1E3"), [{"value_numeric": "1000"}]),
        ("Rows lost", " 1.5 ", [{"value_numeric": "1.5"}]),
        ("Service", "billing", [{"value_catalog_entry_id": "billing"}]),
        ("Services", ["a", "b"], [{"value_catalog_entry_id": "a"}, {"value_catalog_entry_id": "b"}]),
        ("Notes", {"value_text": "x"}, [{"value_text": "x"}]),
        ("Rows lost", {"value_numeric": 3}, [{"value_numeric": "3"}]),
        ("Notes", [], []),
    ],
)
def test_a_custom_field_s_value_is_read_by_its_type(account, name, given, values):
    assert account.values(name, given) == values


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("Colour", "x", "there is no custom field 'Colour'; known: Affected team, Regions"),
        ("Regions", ["EU", "Mars"], "'Regions' has no option 'Mars'; known: EU, US"),
        ("Affected team", "Team 300", "Team 19 and 280 more"),
        ("Affected team", ["Team 1", "Team 2"], "'Affected team' takes one value only"),
        ("Rows lost", "hunter2", "'Rows lost' needs a number"),
        ("Rows lost", True, "'Rows lost' needs a number"),
        ("Rows lost", float("nan"), "'Rows lost' needs a number"),
        ("Rows lost", "1e999999999", "'Rows lost' needs a number of at most 40 digits"),
        ("Rows lost", "1e-999", "'Rows lost' needs a number of at most 40 digits"),
        ("Notes", None, "'Notes' needs a text"),
        ("Notes", {"value_txt": "hunter2"}, "'Notes' needs {kind: value} with one of: id, value_catalog_entry_id"),
        (ulid(43), {"value_text": 7}, "needs {kind: value} with one of"),
    ],
)
def test_a_custom_field_that_cannot_be_is_told_without_its_value(account, name, given, told):
    """A value may be a secret; an option's name is none."""
    said = account.problem(custom_fields={name: given})
    assert told in said
    assert said.startswith("Custom fields: ")
    assert "hunter2" not in said


def test_a_field_of_a_type_to_come_needs_a_ready_value(account):
    account.refusals["/v2/custom_fields"] = json.dumps({"custom_fields": [{"id": "f", "name": "Mood"}]}).encode()
    assert "'Mood' is of a type unknown here" in account.problem(custom_fields={"Mood": "x"})
    ready = [{"value_text": "a"}, {"value_text": "b"}]
    assert account.values("Mood", ready) == ready


def test_one_field_or_role_under_two_names_is_told(account):
    """Which of the two is meant, nobody knows."""
    found = account.lookup_ids(
        custom_fields={"Notes": "a", "NOTES": "b"}, roles={"Scribe": "a@example.com", ulid(31): "b@example.com"}
    )
    assert [str(problem).split(",")[0] for problem in found.problems] == [
        "Custom fields: 'NOTES' is given twice",
        f"Roles: '{ulid(31)}' is given twice",
    ]


@pytest.mark.parametrize(
    ("person", "who"),
    [
        ("bob@example.com", {"email": "bob@example.com"}),
        (" U0123ABCD ", {"slack_user_id": "U0123ABCD"}),
        (ulid(70), {"id": ulid(70)}),
        ({"email": "bob@example.com"}, {"email": "bob@example.com"}),
    ],
)
def test_a_person_is_an_address_a_slack_id_or_an_id(account, person, who):
    assert account.fields(roles={"incident lead": person})["incident_role_assignments"] == [
        {"incident_role_id": ulid(30), "assignee": who}
    ]


@pytest.mark.parametrize("person", [7, " ", None, ["a@example.com"], {}, {"mail": "hunter2"}, {"id": 7}])
def test_what_is_no_person_is_told_without_a_look_up(account, person):
    told = account.problem(roles={"Scribe": person})
    assert told == "Roles: 'Scribe' needs a person: an email address, a Slack ID or an ID"
    assert account.asked == []


def test_what_is_no_name_is_told(account):
    found = account.lookup_ids(severity=3, incident_type=["x"], status=3, custom_fields="x", roles=["x"])
    assert found.fields == {}
    assert len(found.problems) == 5
    assert account.asked == []


def test_each_kind_is_looked_up_once(account):
    """However many names, and reports, there are; 300 options need two pages."""
    for _ in range(2):
        account.fields(
            severity="Major",
            incident_type="Default",
            custom_fields={"Affected team": "Team 299", "Regions": "EU", "Notes": "x"},
            roles={"Scribe": "a@example.com", "Incident Lead": "b@example.com"},
        )
    assert sorted(account.asked) == [
        "/v1/custom_field_options",
        "/v1/custom_field_options",
        "/v1/custom_field_options",
        "/v1/incident_types",
        "/v1/severities",
        "/v2/custom_fields",
        "/v2/incident_roles",
    ]


def test_an_old_list_is_looked_up_once_more_for_a_name_that_it_lacks(account):
    """A severity may be new; a wrong name costs one look-up in ten minutes."""
    assert account.fields(severity="Minor")
    account.lists["/v1/severities"].append(severity(5, "New", 5))
    account.clock = 599.0
    assert "known: Major, Minor, Critical" in account.problem(severity="New")
    account.clock = 601.0
    assert account.fields(severity="Minor")
    assert len(account.asked) == 1
    assert account.fields(severity="New") == {"severity_id": ulid(5)}
    assert account.problem(severity="Newer")
    assert len(account.asked) == 2


def test_of_two_look_ups_at_once_the_first_stays(account):
    """Threads and coroutines share the lists without a lock."""
    slow = lookup_ids({"severity": "Major"}, account.directory, api_version="v1")
    next(slow)
    account.fields(severity="Major")
    with pytest.raises(StopIteration) as end:
        slow.send([severity(9, "Other", 9)])
    assert end.value.value.fields == {"severity_id": ulid(2)}


def test_a_refused_look_up_leaves_its_field_out(account):
    """What is refused for one list is still asked for the next."""
    account.refusals["/v1/severities"] = Response(403)
    found = account.lookup_ids(severity="Major", incident_type="Default")
    assert isinstance(found.missing["Severity"], PermissionDeniedError)
    assert (found.fields, found.problems) == ({"incident_type_id": ulid(10)}, [])


@pytest.mark.parametrize("outage", [Response(503), TransportError("refused")])
def test_after_an_outage_nothing_more_is_looked_up(account, outage):
    """The time left belongs to the incident; what is known already is used."""
    account.fields(incident_type="Default")
    account.refusals = {"/v1/severities": outage}
    found = account.lookup_ids(
        severity="Major", incident_type="Default", roles={"Scribe": "a@example.com"}, custom_fields={"Notes": "x"}
    )
    assert set(found.missing) == {"Severity", "Roles", "Custom fields"}
    assert found.fields == {"incident_type_id": ulid(10)}
    assert set(account.asked) == {"/v1/incident_types", "/v1/severities"}


def test_one_field_whose_options_cannot_be_read_leaves_the_others(account):
    account.refusals["/v1/custom_field_options"] = Response(404)
    found = account.lookup_ids(custom_fields={"Affected team": "Team 1", "Notes": "x"})
    assert list(found.missing) == ["Custom fields (Affected team)"]
    assert [entry["custom_field_id"] for entry in found.fields["custom_field_entries"]] == [ulid(43)]


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"severities": {}}', b"[" * 100_000])
def test_a_list_that_cannot_be_read_is_a_failed_look_up(account, content):
    account.refusals["/v1/severities"] = content
    assert isinstance(account.lookup_ids(severity="Major").missing["Severity"], UnexpectedResponseError)


def test_a_list_that_cannot_be_read_again_is_kept(account):
    account.fields(severity="Major")
    account.clock = 700.0
    account.refusals["/v1/severities"] = Response(500)
    assert isinstance(account.lookup_ids(severity="New").missing["Severity"], ServerError)
    assert account.fields(severity="Major") == {"severity_id": ulid(2)}


def test_rows_of_an_odd_shape_are_passed_over(account):
    rows = [7, {"name": "Major"}, {"id": 3}, {"id": "odd", "rank": "high"}, {"id": "good", "name": "Major", "rank": 1}]
    account.refusals["/v1/severities"] = json.dumps({"severities": rows}).encode()
    assert account.fields(severity="Major") == {"severity_id": "good"}
    assert account.run(lambda: lowest_severity(account.directory)) == "good"


def test_the_lowest_severity_is_that_of_the_lowest_rank(account):
    assert account.run(lambda: lowest_severity(account.directory)) == ulid(1)
    assert account.run(lambda: lowest_severity(account.directory)) == ulid(1)
    assert len(account.asked) == 1
    account.directory = Directory(lambda: 0.0)
    account.lists["/v1/severities"] = []
    assert account.run(lambda: lowest_severity(account.directory)) is None


def test_a_severity_is_found_with_its_rank(account):
    """Also by its ID: the rank is in the list only."""
    for wanted in ("major", ulid(2)):
        assert account.run(lambda wanted=wanted: find_severity(wanted, account.directory))["rank"] == 2
    with pytest.raises(UnknownNameError, match="Majr"):
        account.run(lambda: find_severity("Majr", account.directory))
    with pytest.raises(ConfigurationError, match="must be a name"):
        account.run(lambda: find_severity(3, account.directory))
    account.clock = 700.0
    account.refusals["/v1/severities"] = Response(429)
    with pytest.raises(RateLimitError):
        account.run(lambda: find_severity("Majr", account.directory))
    account.directory = Directory(lambda: 0.0)
    account.refusals["/v1/severities"] = Response(403)
    with pytest.raises(PermissionDeniedError):
        account.run(lambda: find_severity("Major", account.directory))


def test_a_long_name_is_cut_in_what_is_told(account):
    assert len(account.problem(severity="x" * 10_000)) < 300


def test_looking_up_builds_no_model():
    """It lies on the way of a callback; a model costs 20 ms and more."""
    import subprocess
    import sys

    code = "import sys, airflow_incident.api.names; print({'pydantic', 'httpx', 'airflow'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "set()"
