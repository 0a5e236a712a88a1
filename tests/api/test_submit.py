"""How a draft becomes an incident: names, versions and refusals, call by call."""

from collections import deque

import pytest

from airflow_incident.api.calls import Call, CallSequence, Directory, PaginatedCall, PreparedCreate
from airflow_incident.api.incident import IncidentState
from airflow_incident.api.payload import create_draft
from airflow_incident.api.submit import MOST_ANSWERS, SubmitOptions, at_once, submit
from airflow_incident.errors import (
    AmbiguousDeliveryError,
    ConfigurationError,
    FieldError,
    IncidentIoError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
    TransportError,
    UnknownNameError,
    ValidationError,
)
from tests.contract import check_request

SEVERITIES = [
    {"id": "01FCNDV6P870EA6S7TK1DSYDG1", "name": "Minor", "rank": 1},
    {"id": "01FCNDV6P870EA6S7TK1DSYDG2", "name": "Major", "rank": 2},
]
STATUSES = [{"id": "01FCNDV6P870EA6S7TK1DSYDG3", "name": "Fixing", "category": "live", "rank": 1}]
OPEN = IncidentState(id="01FCNDV6P870EA6S7TK1DSYDG9", reference="INC-1", name="DAG orders failed", summary="It failed.")
GONE = NotFoundError(404, type="not_found", errors=(FieldError("not_found", "there is no such path"),))
PEOPLE = {f"01FCNDV6P870EA6S7TK1DSYDH{n}": f"{name}@example.com" for n, name in enumerate(("bob", "eve"))}


def refusal(*fields, code="invalid", pointer=""):
    return ValidationError(422, errors=tuple(FieldError(code, "no", field, pointer) for field in fields))


class Account:
    """Answers creates from a script, and everything else as told; keeps what was sent."""

    def __init__(self, *creates, lists=None, v1=None, found=()):
        self.creates = deque(creates)
        self.lists = {"/v1/severities": SEVERITIES, "/v1/incident_statuses": STATUSES} | (lists or {})
        self.v1 = v1
        self.found = found
        self.sent = []
        self.directory = Directory()

    def run(self, steps):
        answer = None
        try:
            while True:
                call = steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer)
                try:
                    answer = self.take(call)
                except IncidentIoError as error:
                    answer = error
        except StopIteration as end:
            return end.value

    def take(self, call):
        if isinstance(call, PreparedCreate):
            check_request("POST", f"/{call.endpoint}/incidents", call.body)
            self.sent.append(call)
            return self.creates.popleft()
        if isinstance(call, CallSequence):
            return self.run(call.steps(self.directory))
        if isinstance(call, PaginatedCall):
            call = call.page(None)
            assert call.path == "/v2/incidents"
            if isinstance(self.found, Exception):
                raise self.found
            return self.found
        assert isinstance(call, Call)
        return self.v1 if call.path == "/v1/incidents" else self.lists[call.path]

    def submit(self, creation=None, choice="auto", *, strict=False, unsettled=False, **fields):
        draft = create_draft(idempotency_key="k", name="DAG orders failed", summary="It failed.", **fields)
        terms = SubmitOptions(choice, annotate, strict=strict, unsettled=unsettled, since="2026-11-25")
        return self.run(submit(draft, terms, creation=creation))


def annotate(text, notes):
    return " | ".join((text, *notes))


def test_a_draft_without_names_needs_one_request():
    """IDs are looked up nowhere."""
    account = Account(OPEN)
    assert account.submit(severity=SEVERITIES[0]["id"]) is OPEN
    assert account.sent == [
        PreparedCreate(
            {
                "idempotency_key": "k",
                "name": "DAG orders failed",
                "summary": "It failed.",
                "visibility": "public",
                "severity_id": SEVERITIES[0]["id"],
            }
        )
    ]


def test_a_name_becomes_its_id():
    """In any case."""
    account = Account(OPEN)
    account.submit(severity="major")
    assert account.sent[0].body["severity_id"] == SEVERITIES[1]["id"]
    assert account.sent[0].body["summary"] == "It failed."


def test_what_is_unknown_is_left_out_and_told():
    """The incident opens all the same, and the summary lists what is known."""
    account = Account(OPEN)
    account.submit(severity="Apocalypse")
    (creation,) = account.sent
    assert "severity_id" not in creation.body
    assert creation.body["summary"].endswith("Left out: Severity. Airflow's log says why.")
    assert "no severity 'Apocalypse'; known: Minor, Major" in creation.notes[0]
    assert not creation.partial


def test_what_cannot_be_looked_up_is_left_out_and_told():
    """And can be made anew, as long as it has surely not arrived."""
    account = Account(OPEN, lists={"/v1/severities": ServerError(503)})
    account.submit(severity="Major")
    (creation,) = account.sent
    assert creation.body["summary"].endswith("Left out: Severity. Airflow's log says why.")
    assert "Severity could not be looked up" in creation.notes[0]
    assert creation.partial


def test_a_strict_draft_fails_on_what_is_unknown():
    """Listing the known names, before anything is sent."""
    account = Account(OPEN)
    with pytest.raises(UnknownNameError, match="known: Minor, Major") as caught:
        account.submit(severity="Apocalypse", strict=True)
    assert (caught.value.kind, caught.value.name, caught.value.known) == ("severity", "Apocalypse", ("Minor", "Major"))
    with pytest.raises(ServerError):
        Account(OPEN, lists={"/v1/severities": ServerError(503)}).submit(severity="Major", strict=True)
    assert account.sent == []


@pytest.mark.parametrize(("strict", "version"), [(True, "v1"), (False, "v1"), (False, "v2")])
def test_a_field_of_the_other_version_cannot_be_said(strict, version):
    """A strict draft fails, another opens without it."""
    fields = {"v1": {"slack_channel_name_override": "fire"}, "v2": {"source_message_channel_id": "C1"}}[version]
    account = Account(OPEN)
    if strict:
        with pytest.raises(ConfigurationError, match="cannot be said in v1"):
            account.submit(choice=version, strict=True, **fields)
    else:
        account.submit(choice=version, **fields)
        assert f"cannot be said in {version}" in account.sent[0].notes[0]


def test_v2_says_it_in_its_own_words():
    """Mode and status have other names there; what v1 cannot say goes through v2 by itself."""
    account = Account(OPEN, OPEN)
    account.submit(choice="v2", mode="real", status="Fixing")
    assert account.sent[0].endpoint == "v2"
    assert account.sent[0].body["mode"] == "standard"
    assert account.sent[0].body["incident_status_id"] == STATUSES[0]["id"]
    account.submit(slack_channel_name_override="fire")
    assert account.sent[1].endpoint == "v2"


def test_what_v1_no_longer_serves_goes_through_v2():
    """Once both the create and a harmless list say that it is gone; with the status that was asked for."""
    account = Account(GONE, OPEN, v1=GONE)
    assert account.submit(status="fixing", mode="real", source_message_channel_id="C1") is OPEN
    assert [c.endpoint for c in account.sent] == ["v1", "v2"]
    assert account.sent[1].body["incident_status_id"] == STATUSES[0]["id"]
    assert account.sent[1].body["mode"] == "standard"
    assert account.directory.v1_gone


@pytest.mark.parametrize(
    ("answer", "v1"),
    [
        (GONE, None),
        (GONE, ServerError(503)),
        (NotFoundError(404, errors=(FieldError("not_found", "no", "incident_type_id"),)), GONE),
        (ServerError(502), GONE),
    ],
    ids=["the list is served", "the list is down", "a field is to blame", "an outage"],
)
def test_anything_less_than_gone_stays_in_v1(answer, v1):
    """An ID that is not found is no end of a version."""
    account = Account(answer, answer, v1=v1)
    with pytest.raises(type(answer)):
        account.submit()
    assert {c.endpoint for c in account.sent} == {"v1"}


def test_where_nobody_can_say_whether_v1_is_gone_the_create_waits():
    """It is no refusal: what was sent may have taken effect, and is sent again later."""
    account = Account(GONE, OPEN, v1=TransportError("refused"))
    with pytest.raises(TransportError) as caught:
        account.submit()
    assert caught.value.retryable
    assert caught.value.maybe_delivered
    assert len(account.sent) == 1
    assert not account.directory.v1_gone


def test_a_v1_that_flickers_is_asked_once_more():
    """Gone for one request and there for the next: behind a load balancer some answer, some do not."""
    account = Account(GONE, OPEN)
    assert account.submit() is OPEN
    assert [c.endpoint for c in account.sent] == ["v1", "v1"]
    assert not account.directory.v1_gone


def test_a_chosen_version_is_never_left():
    """`v1` means v1."""
    account = Account(GONE, v1=GONE)
    with pytest.raises(NotFoundError):
        account.submit(choice="v1")


def test_an_unsettled_attempt_never_changes_its_version():
    """What v1 may have opened is looked for, and not opened a second time."""
    alike = IncidentState(id="2", name="DAG orders failed", summary="Another run.")
    account = Account(GONE, v1=GONE, found=[alike, OPEN])
    assert account.submit(unsettled=True) is OPEN
    account = Account(GONE, v1=GONE, found=[alike])
    with pytest.raises(AmbiguousDeliveryError, match="404") as caught:
        account.submit(unsettled=True)
    assert caught.value.retryable
    assert caught.value.maybe_delivered
    dropped = NotFoundError(404)
    dropped.maybe_delivered = True
    account = Account(dropped, v1=GONE)
    with pytest.raises(AmbiguousDeliveryError):
        account.submit()
    assert [c.endpoint for c in account.sent] == ["v1"]


def test_a_search_that_fails_settles_nothing():
    """An outage passes; a key that may not list leaves it to a person, and is not taken for a refusal."""
    with pytest.raises(ServerError):
        Account(GONE, v1=GONE, found=ServerError(503)).submit(unsettled=True)
    with pytest.raises(AmbiguousDeliveryError, match="nor can incidents be listed"):
        Account(GONE, v1=GONE, found=PermissionDeniedError(403)).submit(unsettled=True)


def test_what_v2_cannot_say_is_told_on_the_way_there():
    """Left out with a note; a strict draft fails, as it would have if v2 had been asked at once."""
    account = Account(GONE, OPEN, v1=GONE)
    account.submit(source_message_channel_id="C1")
    assert "source message channel: cannot be said in v2" in account.sent[1].notes[0].lower()
    with pytest.raises(ConfigurationError, match="cannot be said in v2"):
        Account(GONE, OPEN, v1=GONE).submit(strict=True, source_message_channel_id="C1")


def test_a_refused_field_is_left_out():
    """One more create, which says so."""
    account = Account(refusal("severity_id", "slack_team_id"), OPEN)
    account.submit(severity="Major", slack_team_id="T1")
    first, second = account.sent
    assert set(first.body) - set(second.body) == {"severity_id", "slack_team_id"}
    assert "Left out: Severity, which incident.io refused (no)." in second.notes
    assert "Left out: Severity. Airflow's log says why." in second.body["summary"]


def test_of_a_list_only_the_refused_entry_is_left_out():
    """A leaver's role does not cost the others theirs."""
    account = Account(refusal("incident_role_assignments", pointer="/incident_role_assignments/1/assignee"), OPEN)
    account.submit(roles=PEOPLE)
    assert [a["assignee"]["email"] for a in account.sent[1].body["incident_role_assignments"]] == ["bob@example.com"]
    account = Account(refusal("incident_role_assignments", pointer="/incident_role_assignments"), OPEN)
    account.submit(roles=PEOPLE)
    assert "incident_role_assignments" not in account.sent[1].body


def test_a_demanded_severity_is_the_lowest():
    """Nobody is alarmed more than need be."""
    account = Account(refusal("severity_id", code="is_required"), OPEN)
    account.submit()
    assert account.sent[1].body["severity_id"] == SEVERITIES[0]["id"]
    assert "demands a severity" in account.sent[1].body["summary"]
    with pytest.raises(ValidationError):
        Account(refusal("severity_id", code="is_required"), lists={"/v1/severities": []}).submit()


def test_a_private_type_makes_the_incident_private():
    """Told by its list, or by the refusal; never the other way round."""
    secret = {"id": "01FCNDV6P870EA6S7TK1DSYDG7", "name": "Security", "private_incidents_only": True}
    account = Account(OPEN, lists={"/v1/incident_types": [secret]})
    account.submit(incident_type="security")
    assert account.sent[0].body["visibility"] == "private"
    account = Account(refusal("visibility"), OPEN)
    account.submit(incident_type=secret["id"])
    assert [c.body["visibility"] for c in account.sent] == ["public", "private"]


@pytest.mark.parametrize("field", ["visibility", "mode", "idempotency_key", "incident_type_id", ""])
def test_what_may_not_be_weakened_is_refused(field):
    """Nor is anything tried that changes nothing."""
    account = Account(refusal(field), OPEN)
    with pytest.raises(ValidationError):
        account.submit(mode="test", visibility="private")
    assert len(account.sent) == 1


def test_refusals_are_answered_one_by_one():
    """An account may tell them so; each is answered by one more create."""
    account = Account(refusal("severity_id"), refusal("slack_team_id"), OPEN)
    account.submit(severity="Major", slack_team_id="T1")
    assert [set(creation.body) & {"severity_id", "slack_team_id"} for creation in account.sent] == [
        {"severity_id", "slack_team_id"},
        {"slack_team_id"},
        set(),
    ]


def test_an_account_that_never_has_enough_is_left_alone():
    """It demands a severity and refuses each."""
    account = Account(*[refusal("severity_id", code="is_required"), refusal("severity_id")] * 9)
    with pytest.raises(ValidationError, match="severity_id"):
        account.submit()
    assert len(account.sent) == MOST_ANSWERS + 1


def test_a_strict_draft_is_not_degraded():
    """Whatever is refused stands, but that an incident must be private."""
    with pytest.raises(ValidationError):
        Account(refusal("severity_id"), OPEN).submit(severity="Major", strict=True)
    account = Account(refusal("visibility"), OPEN)
    account.submit(incident_type=SEVERITIES[0]["id"], strict=True)
    assert [creation.body["visibility"] for creation in account.sent] == ["public", "private"]
    with pytest.raises(ValidationError):
        Account(refusal("visibility", "severity_id"), OPEN).submit(
            incident_type=SEVERITIES[0]["id"], severity="Major", strict=True
        )


def test_what_was_sent_before_is_sent_again():
    """The same body through the same version, whatever is wanted by now."""
    before = PreparedCreate({"idempotency_key": "k", "visibility": "public", "name": "as it was"}, "v2")
    account = Account(OPEN)
    account.submit(before, choice="v1", severity="Major")
    assert account.sent == [before]


def test_what_needs_no_look_up_is_known_at_once():
    """So that it can be written down before anything is asked."""
    terms = SubmitOptions("auto", annotate)
    assert at_once(create_draft(idempotency_key="k", severity="Major"), terms) is None
    assert at_once(create_draft(idempotency_key="k"), terms) == PreparedCreate(
        {"idempotency_key": "k", "visibility": "public"}
    )
