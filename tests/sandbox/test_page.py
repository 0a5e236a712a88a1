"""The page shows every incident at once, in full, and lets no incident's text do anything."""

import html.parser
import json
import threading

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_incident.sandbox import summary, view
from airflow_incident.sandbox.server import Sandbox
from tests.contract import check_all, check_response

from .conftest import BODY, speak


def follow(stream):
    """Yield what a browser's EventSource would: the name of an event, and its data."""
    name = None
    for line in stream.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))
        elif line.startswith(":"):
            yield "comment", line


@pytest.fixture
def page(box):
    with httpx.Client(base_url=box.url, trust_env=False, timeout=5) as page:
        yield page


@pytest.mark.parametrize("fault", ["none", "hang"])
def test_open_pages_hear_of_every_change_until_the_sandbox_stops(fault):
    """New, repeated, closed and cleared arrive without reloading, even while the API is broken."""
    with Sandbox(fault=fault) as box, httpx.Client(base_url=box.url, trust_env=False, timeout=5) as page:
        api = httpx.Client(base_url=box.direct_url, headers=speak(box).headers, trust_env=False)
        with page.stream("GET", "/page/events") as stream, api:
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            events = follow(stream)
            name, data = next(events)
            assert (name, data["incidents"], data["connection"]) == ("snapshot", [], box.connection_line())
            api.post("/v1/incidents", json=BODY)
            name, row = next(events)
            assert (name, row["reference"], row["status"], row["repeats"]) == (
                "incident",
                "INC-1",
                "Triage",
                0,
            )
            api.post("/v1/incidents", json=BODY)
            assert next(events)[1]["repeats"] == 1
            box.close("INC-1")
            assert next(events)[1]["category"] == "closed"
            box.clear()
            assert next(events)[1]["incidents"] == []
            stopping = threading.Thread(target=box.store.end)
            stopping.start()
            assert list(events) == []
            stopping.join()


def test_who_asks_for_events_of_a_stopping_sandbox_is_not_kept():
    with Sandbox() as box:
        box.store.end()
        answer = httpx.get(f"{box.url}/page/events", trust_env=False, timeout=5)
        assert answer.text.count("event: ") == 1


def test_a_reconnecting_page_is_told_everything_it_missed(page, client):
    client.post("/v1/incidents", json=BODY)
    with page.stream("GET", "/page/events") as stream:
        _, data = next(follow(stream))
    assert [row["reference"] for row in data["incidents"]] == ["INC-1"]
    assert data["incidents"][0]["severity"] is None


def test_silence_is_broken_so_that_a_lost_browser_is_noticed(page, monkeypatch):
    monkeypatch.setattr(view, "HEARTBEAT", 0.01)
    with page.stream("GET", "/page/events") as stream:
        events = follow(stream)
        next(events)
        assert next(events) == ("comment", ": still here")


def test_a_page_that_went_away_is_nothing_to_stumble_over(box, client, page):
    with page.stream("GET", "/page/events") as stream:
        next(follow(stream))
    for number in range(3):
        assert client.post("/v1/incidents", json={**BODY, "idempotency_key": str(number)}).status_code == 200


def test_the_permalink_opens_the_page(client, page):
    incident = client.post("/v1/incidents", json=BODY).json()["incident"]
    for path in ("/", f"/incidents/{incident['id']}", incident["permalink"]):
        answer = page.get(path)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "<main" in answer.text


def test_the_way_to_open_one_by_hand_leads_to_a_version_that_is_there():
    for removed, version in ((False, "v1"), (True, "v2")):
        with Sandbox(v1_removed=removed) as box:
            snapshot = view._snapshot(box.store)
        assert f"{box.url}/{version}/incidents " in snapshot["curl"]
        assert json.loads(snapshot["alert"])["alert_source_id"] == box.options.alert_source_id


def test_an_unknown_incident_is_404_but_still_a_page(page):
    answer = page.get("/incidents/INC-99")
    assert answer.status_code == 404
    assert "<main" in answer.text


def test_the_detail_has_the_incident_the_request_the_answer_and_the_summary_as_html(box, client, page):
    first = client.post("/v1/incidents", json={**BODY, "summary": "It **broke**"})
    found = page.get("/page/incidents/INC-1").json()
    assert found["incident"] == box.incidents_v2[0]
    assert found["opened_by"] == "v1"
    assert found["request"] == {**BODY, "summary": "It **broke**"}
    assert found["answer"] == first.json()
    assert found["summary_html"] == "<p>It <strong>broke</strong></p>\n"


def test_the_page_has_a_place_for_every_field_of_an_incident(box, client, page):
    client.post("/v1/incidents", json={**BODY, "summary": "x", "severity_id": box.catalogue.severities[0]["id"]})
    script = page.get("/page/app.js").text
    for name in box.incidents_v2[0]:
        assert name in script


def press(page, button, reference="INC-1", **headers):
    return page.post(
        f"/page/incidents/{reference}/{button}", headers=headers or {"Origin": str(page.base_url).rstrip("/")}
    )


def row(page, reference="INC-1"):
    return page.get(f"/page/incidents/{reference}").json()["row"]


@pytest.mark.parametrize("button", view.ACTIONS)
def test_a_button_works_only_on_the_page_itself(box, client, page, button):
    client.post("/v1/incidents", json=BODY)
    before = row(page)
    for origin in (None, "https://example.com", "null", "http://127.0.0.1:1"):
        answer = press(page, button, Origin=origin) if origin else page.post(f"/page/incidents/INC-1/{button}")
        assert answer.status_code == 403
        check_response("POST", "/v1/incidents", 403, answer.json())
    assert row(page) == before
    assert press(page, button).status_code == 200
    assert press(page, button).status_code == 200  # two people at once
    assert row(page) != before
    assert press(page, button, "INC-9").status_code == 404
    assert page.get(f"/page/incidents/INC-1/{button}").status_code == 405


def test_a_button_that_is_not_there_cannot_be_pressed(client, page):
    client.post("/v1/incidents", json=BODY)
    assert press(page, "delete").status_code == 404


def test_a_person_accepts_leads_and_closes(box, client, page):
    """What the buttons do is what the API shows: out of triage, led by somebody, over."""
    client.post("/v1/incidents", json=BODY)
    found = press(page, "accept").json()["incident"]
    assert found["incident_status"]["category"] == "live"
    assert [it["incident_timestamp"]["name"] for it in found["incident_timestamp_values"] if "value" in it] == [
        "Reported at",
        "Accepted at",
    ]
    assert row(page)["lead"] is None
    press(page, "lead")
    roles = client.get("/v2/incidents/" + found["id"]).json()["incident"]["incident_role_assignments"]
    assert [it["role"]["role_type"] for it in roles if "assignee" in it] == ["lead"]
    assert row(page)["lead"] == "Alice Archer"
    press(page, "close")
    assert row(page)["category"] == box.incidents[0]["status"] == "closed"
    check_all(box)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_what_was_edited_says_so(box, client, page, version):
    """Its text or its title, by whichever version it was opened; anything else is no edit of the text."""
    opened = client.post(f"/{version}/incidents", json={**BODY, "name": "a", "summary": "b"}).json()["incident"]

    def edit(**incident):
        path = f"/v2/incidents/{opened['id']}/actions/edit"
        assert client.post(path, json={"incident": incident, "notify_incident_channel": False}).status_code == 200
        return row(page)["edited"]

    assert (
        row(page)["edited"] == edit(severity_id=box.catalogue.severities[0]["id"]) == edit(name="a", summary="b") == []
    )
    assert edit(summary="**c**") == ["summary"]
    assert edit(name="d") == ["name", "summary"]
    found = page.get("/page/incidents/INC-1").json()
    assert found["summary_html"] == "<p><strong>c</strong></p>\n"
    assert found["request"]["summary"] == "b"
    box.alert({"title": "x", "deduplication_key": "x", "status": "firing"})
    assert row(page, "INC-2")["edited"] == []


def test_the_attachments_of_a_storm_are_counted_and_all_there(box, client, page):
    incident = client.post("/v1/incidents", json=BODY).json()["incident"]
    for number in range(60):
        url = f"https://airflow.example.com/{number}"
        resource = {"resource_type": "arbitrary_url", "url": url, "title": f"dag_{number}"}
        box.attach({"incident_id": incident["id"], "resource": resource})
    assert row(page)["attachments"] == 60
    found = page.get("/page/incidents/INC-1").json()["attachments"]
    assert [it["title"] for it in found] == [f"dag_{number}" for number in range(60)]


def test_a_row_has_what_the_page_s_filters_ask_for(box, client, page):
    """Text, status, severity, mode and the DAG, which the key names, whichever of the two opened it."""
    client.post("/v1/incidents", json={**BODY, "name": "a", "mode": "test", "summary": "x" * 2000})
    box.alert(
        {"title": "b", "description": "x" * 2000, "deduplication_key": BODY["idempotency_key"], "status": "firing"}
    )
    for reference, name, mode in (("INC-1", "a", "test"), ("INC-2", "b", "standard")):
        found = row(page, reference)
        assert (found["name"], found["mode"], found["status"], found["severity"]) == (name, mode, "Triage", None)
        assert found["key"] == "airflow/prod/dag/orders/run/1"
        assert found["beginning"] == "x" * 1000
    markup, script = page.get("/").text, page.get("/page/app.js").text
    for name in ("q", "status", "severity", "mode", "dag"):
        assert f'name="{name}"' in markup
    assert r"/^airflow\/[^/]*\/dag\/([^/]+)/" in script


def test_a_row_names_what_is_unusual_only_where_it_is(box, client, page):
    client.post("/v1/incidents", json=BODY)
    usual = row(page)
    assert (usual["severity"], usual["lead"], usual["alert"], usual["edited"]) == (None, None, None, [])
    assert (usual["attachments"], usual["repeats"]) == (0, 0)
    script = page.get("/page/app.js").text
    assert all(f"row.{name}" in script for name in usual.keys() - {"id"})


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/page/style.css", "/incidents/x"])
def test_every_file_comes_with_a_strict_policy_and_is_never_stored(page, path):
    headers = page.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("name", ["index.html", "nothing.js", "..%2Fserver.py", "%2e%2e/server.py"])
def test_nothing_else_can_be_read(page, name):
    assert page.get(f"/page/{name}").status_code == 404


def test_the_page_asks_nothing_of_other_hosts_and_has_no_inline_code(page):
    text = page.get("/").text
    assert "style=" not in text
    assert "<style" not in text
    assert text.count("<script") == text.count('<script type="module" src="/page/app.js"></script>') == 1
    for path in ("/", "/page/app.js", "/page/style.css"):
        outside = page.get(path).text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in outside
        assert "https://" not in outside


class Markup(html.parser.HTMLParser):
    """Collects the tags and attributes of a text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.attributes = set(), [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "a":
            self.links.append(dict(attrs))


HEADINGS = {f"h{level}" for level in range(1, 7)}
TABLES = {"table", "thead", "tbody", "tr", "th", "td"}
TEXT = {"p", "br", "hr", "a", "strong", "em", "s", "code", "pre", "ul", "ol", "li", "blockquote"}


def check_harmless(text):
    markup = Markup(summary.render(text))
    assert markup.tags <= HEADINGS | TABLES | TEXT
    assert markup.attributes <= {"href", "rel", "target", "class", "start", "title"}
    for link in markup.links:
        assert link["href"].lower().startswith(("http://", "https://"))
        assert link["rel"] == "noopener noreferrer nofollow"
        assert link["target"] == "_blank"


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "![x](https://example.com/x.png)",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](data:text/html,<script>alert(1)</script>)",
        "[x](//example.com)",
        "[x](/v1/incidents)",
        '[x](https://e.com/"onmouseover="alert(1))',
        '[x](https://e.com "a\\" onclick=\\"alert(1)")',
        "<javascript:alert(1)>",
        "[x]: javascript:alert(1)\n\n[x]",
        '```"><script>\nx\n```',
        "|a|b|\n|:-|-:|\n|<b>|`<i>`|",
        "&lt;script&gt; &#106;avascript:",
    ],
)
def test_a_summary_cannot_do_anything(text):
    check_harmless(text)


@settings(max_examples=200, derandomize=True, database=None)
@given(st.text(st.sampled_from("<>[]()!\"'`*_|-:\\&;#\n aj:/hscriptonx=.\ud800é"), max_size=60))
def test_no_text_at_all_can_do_anything(text):
    check_harmless(text)


def test_what_markdown_promises_is_kept():
    text = "# A\n\n- **b** `c` ~~d~~\n\n[e](https://example.com/e)\n\n"
    text += "| f | g |\n|---|--:|\n| 1 | 2 |\n\n```\nh\n```\n> i"
    markup = Markup(summary.render(text))
    assert {"h1", "li", "strong", "code", "s", "a", "td", "pre", "blockquote"} <= markup.tags
    assert markup.links[0]["href"] == "https://example.com/e"
