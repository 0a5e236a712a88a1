"""v2's list lets through what its filters ask for, over all pages."""

import pytest

from airflow_incident.sandbox import catalogue
from airflow_incident.sandbox.server import Sandbox
from tests.contract import check_request, check_response

from .conftest import BODY, Clock, field_id, refused, speak
from .test_second_version import COMMS, LEAD, STATUS

MINOR, MAJOR, CRITICAL = (row["id"] for row in catalogue.SEVERITIES)
DEFAULT, PIPELINE, _ = (row["id"] for row in catalogue.INCIDENT_TYPES)
TEAM = catalogue.CUSTOM_FIELDS[0]
PRODUCT = TEAM["options"][0]["id"]
BOB = catalogue.USERS[1]["id"]
DAY = 86400

# The clock starts on 2026-09-21 and goes on by a day with each of these.
ROWS = [
    {"severity_id": MINOR},
    {"severity_id": MAJOR, "incident_status_id": STATUS["Fixing"], "incident_type_id": PIPELINE},
    {"severity_id": CRITICAL, "incident_status_id": STATUS["Closed"]},
    {"mode": "test", "incident_status_id": STATUS["Fixing"]},
    {
        "mode": "retrospective",
        "incident_status_id": STATUS["Post-incident"],
        "custom_field_entries": [{"custom_field_id": TEAM["id"], "values": [{"value_option_id": PRODUCT}]}],
        "incident_role_assignments": [{"incident_role_id": LEAD, "assignee": {"id": BOB}}],
    },
]


@pytest.fixture(scope="module")
def filled():
    clock = Clock()
    with Sandbox(clock=clock) as box, speak(box) as client:
        for number, row in enumerate(ROWS):
            answer = client.post("/v2/incidents", json={**BODY, "idempotency_key": str(number), **row})
            assert answer.status_code == 200, answer.text
            clock.now += DAY
        yield box


def numbers(client, query):
    answer = client.get(f"/v2/incidents?{query}")
    assert answer.status_code == 200, answer.text
    return "".join(row["reference"].removeprefix("INC-") for row in answer.json()["incidents"])


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "5321"),
        ("sort_by=created_at_oldest_first", "1235"),
        ("mode[one_of]=test", "4"),
        ("mode[one_of]=standard&mode[one_of]=test", "4321"),
        ("status_category[one_of]=live", "2"),
        ("status_category[one_of]=live&mode[one_of]=test", "4"),
        ("status_category[one_of]=live&status_category[one_of]=triage", "21"),
        ("status_category[not_in]=closed&status_category[not_in]=learning", "21"),
        (f"status[one_of]={STATUS['Fixing']}", "2"),
        (f"status[not_in]={STATUS['Fixing']}", "531"),
        (f"severity[one_of]={MINOR}&severity[one_of]={CRITICAL}", "31"),
        (f"severity[not_in]={MINOR}", "532"),
        (f"severity[gte]={MAJOR}", "32"),
        (f"severity[lte]={MAJOR}", "21"),
        (f"incident_type[one_of]={PIPELINE}", "2"),
        (f"incident_type[not_in]={PIPELINE}", "531"),
        ("created_at[gte]=2026-09-23", "53"),
        ("created_at[lte]=2026-09-23", "21"),
        ("updated_at[lte]=2026-09-22T23:59:59Z", "21"),
        ("created_at[date_range]=2026-09-22~2026-09-24", "32"),
        (f"incident_role[{LEAD}][one_of]={BOB}", "5"),
        (f"incident_role[{LEAD}][is_blank]=true", "321"),
        (f"incident_role[{COMMS}][is_blank]=false", ""),
        (f"custom_field[{TEAM['id']}][one_of]={PRODUCT}", "5"),
        (f"custom_field[{TEAM['id']}][not_in]={PRODUCT}", "321"),
        (f"custom_field[{field_id('Notes')}][is_blank]=true", "5321"),
        (f"severity[one_of]={MINOR}&status_category[one_of]=closed", ""),
        (f"severity[one_of]={MINOR}&status_category[one_of]=closed&filter_mode=any", "31"),
        ("filter_mode=any", "5321"),
        ("unknown[one_of]=x&status_category[one_of]=", "5321"),
    ],
)
def test_a_filter_lets_through_what_it_says(filled, query, found):
    with speak(filled) as client:
        assert numbers(client, query) == found


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status_category[one_of]=active", "status_category"),
        ("status_category[gte]=live", "status_category"),
        ("status[one_of]=Fixing", "status"),
        ("severity[gte]=Major", "severity"),
        ("severity[one_of][x]=y", "severity"),
        ("mode[one_of]=real", "mode"),
        ("created_at[gte]=soon", "created_at"),
        ("created_at[date_range]=2026-01-01", "created_at"),
        ("created_at[gte]=2026-01-01T10:00:00", "created_at"),
        ("incident_role[one_of]=x", "incident_role"),
        ("custom_field[x][is_blank]=perhaps", "custom_field"),
        ("filter_mode=some", "filter_mode"),
        ("sort_by=name", "sort_by"),
        ("page_size=501", "page_size"),
        ("after=nope", "after"),
    ],
)
def test_a_wrong_filter_is_named(filled, query, field):
    with speak(filled) as client:
        errors = refused(client.get(f"/v2/incidents?{query}"), 422, "validation_error")
    assert [row["source"]["field"] for row in errors] == [field]


def test_all_pages_together_are_all_that_match(filled):
    with speak(filled) as client:
        seen, after = [], {}
        while after is not None:
            page = client.get(
                "/v2/incidents", params={"page_size": 1, "status_category[not_in]": "closed", **after}
            ).json()
            seen += [row["reference"] for row in page["incidents"]]
            meta = page["pagination_meta"]
            assert meta["total_record_count"] == 3
            after = {"after": meta["after"]} if "after" in meta else None
    assert seen == ["INC-5", "INC-2", "INC-1"]


def test_every_request_and_answer_here_is_the_document_s(filled):
    for seen in filled.requests:
        check_response(seen.method, seen.path, seen.status, seen.answer)
        if seen.status == 200 and "unknown" not in seen.query:
            check_request(seen.method, seen.path, seen.body, seen.query)
