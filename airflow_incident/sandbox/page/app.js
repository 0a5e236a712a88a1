// The sandbox's page: a list that follows the server's events, and one incident in full.
// What comes from incidents is set as text, never as markup; only the summary arrives as HTML, made safe by the server.

const $ = (id) => document.getElementById(id);
const incidents = new Map(); // reference -> row, as the events tell it
const DONE = new Set(["closed", "declined", "canceled", "merged"]);
const ATTACHMENTS_SHOWN = 50;
const OPENED_BY = { v1: "a create of v1", v2: "a create of v2", alert: "an alert, by the alert route" };
const shown = { reference: null, raw: null, ready: false, search: "" };

/** Build an element: make("p.none", {title: "x"}, "text", child). */
function make(kind, attributes = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function ago(moment) {
  const seconds = Math.max(0, (Date.now() - Date.parse(moment)) / 1000);
  if (seconds < 5) return "just now";
  const words = new Intl.RelativeTimeFormat("en", { style: "narrow" });
  if (seconds < 60) return words.format(-Math.floor(seconds), "second");
  if (seconds < 3600) return words.format(-Math.floor(seconds / 60), "minute");
  if (seconds < 86400) return words.format(-Math.floor(seconds / 3600), "hour");
  return words.format(-Math.floor(seconds / 86400), "day");
}

function when(moment, kind = "time") {
  const title = new Date(moment).toLocaleString();
  return make(kind, { datetime: moment, title, "data-ago": moment }, ago(moment));
}

/** A status by its own name, in its category's colour; a live one may still be unexplained, or watched. */
function pill(row) {
  const word = row.status.toLowerCase() === "monitoring" ? "monitoring" : row.category.replace(/[^a-z]/g, "");
  return make(`span.pill.is-${word}`, { title: `Category: ${row.category}` }, row.status);
}

const chip = (look, text, title) => make(`span.chip.${look}`, title ? { title } : {}, text);
const alertChip = (status, text) => chip(`alert-${status === "firing" ? "firing" : "resolved"}`, text);

/** What is not as usual, and nothing else. */
function chips(row, ...first) {
  const found = [
    ...first,
    row.severity && chip("known", row.severity, "Severity"),
    row.mode !== "standard" && chip("rare", row.mode, "Mode"),
    row.visibility !== "public" && chip("rare", row.visibility, "Visibility"),
    row.alert && alertChip(row.alert, `alert ${row.alert}`),
    row.lead && chip("known", `lead ${row.lead}`),
    row.edited.length > 0 && chip("plain", "edited", `Not as it was opened: ${row.edited.join(", ")}`),
    row.attachments > 0 && chip("plain", row.attachments === 1 ? "1 attachment" : `${row.attachments} attachments`),
    row.repeats > 0 && chip("plain", `key repeated ×${row.repeats}`, "How often its idempotency key came again"),
  ].filter(Boolean);
  return found.length ? make("span.chips", {}, ...found) : null;
}

function listRow(row, fresh) {
  const link = make(
    DONE.has(row.category) ? "a.row.done" : "a.row",
    { href: `/incidents/${row.reference}`, "data-route": "" },
    make("span.ref", {}, row.reference), make("span.what", {}, make("span.name", {}, row.name), chips(row)),
    pill(row), when(row.created_at, "time.ago"),
  );
  return make(fresh ? "li.fresh" : "li", { id: `row-${row.reference}` }, link);
}

/** The DAG of an incident that airflow-incident opened, which its key tells: airflow/DEPLOYMENT/dag/DAG/run/RUN. */
function dagOf(row) {
  const encoded = /^airflow\/[^/]*\/dag\/([^/]+)/.exec(row.key)?.[1] ?? "";
  try { return decodeURIComponent(encoded); } catch { return encoded; }
}

// Filter -> what all are called, and what it reads; its name is the control's, and the address's.
const FILTERS = {
  status: ["All statuses", (row) => row.status],
  severity: ["All severities", (row) => row.severity ?? "No severity"],
  mode: ["All modes", (row) => row.mode],
  dag: ["All DAGs", (row) => dagOf(row) || "No DAG"],
};
const filters = () => new URLSearchParams(location.pathname === "/" ? location.search : shown.search);

/** Let a control choose among the values that there are; one that is open is left alone as long as they are the same. */
function offer(select, all, read, chosen) {
  const values = [...new Set([...incidents.values()].map(read).concat(chosen || []))].sort();
  if (values.join("\n") !== select.dataset.values) {
    select.replaceChildren(make("option", { value: "" }, all), ...values.map((value) => make("option", { value }, value)));
    select.dataset.values = values.join("\n");
  }
  select.value = chosen;
}

/** Show the rows that have every word and every value asked for. */
function filter() {
  const asked = filters();
  const words = (asked.get("q") ?? "").toLowerCase().split(/\s+/);
  let left = 0;
  for (const row of incidents.values()) {
    const text = `${row.reference} ${row.name} ${dagOf(row)} ${row.key} ${row.beginning} ${row.lead ?? ""}`.toLowerCase();
    const fits = words.every((word) => text.includes(word)) && Object.entries(FILTERS).every(([name, [, read]]) => !asked.get(name) || read(row) === asked.get(name));
    $(`row-${row.reference}`).hidden = !fits;
    left += fits;
  }
  for (const [name, [all, read]] of Object.entries(FILTERS)) offer($("filters").elements[name], all, read, asked.get(name) ?? "");
  const search = $("filters").elements.q;
  if (document.activeElement !== search) search.value = asked.get("q") ?? "";
  $("clear").hidden = asked.size === 0;
  $("none").hidden = left > 0 || incidents.size === 0;
  return left;
}

/** Put what is asked for into the address, so that it outlives a reload and can be sent to somebody. */
function ask() {
  const asked = new URLSearchParams([...new FormData($("filters"))].filter(([, value]) => value));
  history.replaceState(null, "", asked.size ? `/?${asked}` : "/");
  counts();
  $("announce").textContent = `${document.querySelectorAll("#rows li:not([hidden])").length} shown`;
}

function counts() {
  const rows = [...incidents.values()];
  const done = rows.filter((row) => DONE.has(row.category)).length;
  const left = filter();
  const some = left < rows.length ? ` · ${left} shown` : "";
  $("filters").hidden = rows.length === 0;
  $("counts").textContent = rows.length ? `${rows.length - done} open · ${done} closed${some}` : "";
  $("empty").hidden = rows.length > 0 || !shown.ready;
  if (!shown.reference) document.title = rows.length ? `(${rows.length - done}) Incidents · sandbox` : "Incidents · sandbox";
}

function onSnapshot(snapshot) {
  shown.ready = true;
  incidents.clear();
  for (const row of snapshot.incidents) incidents.set(row.reference, row);
  $("rows").replaceChildren(...snapshot.incidents.map((row) => listRow(row, false)).reverse());
  for (const id of ["connection", "alert", "curl"]) $(id).textContent = snapshot[id];
  $("routes").replaceChildren(...snapshot.routes.map((route) => make("li", {}, `${route.name}: ${conditions(route)}`)));
  $("how").open = snapshot.incidents.length === 0;
  counts();
  if (shown.reference) showDetail(shown.reference);
}

function onIncident(row) {
  const before = incidents.get(row.reference);
  incidents.set(row.reference, row);
  const old = $(`row-${row.reference}`);
  const element = listRow(row, !before);
  const focused = old?.contains(document.activeElement);
  if (old) old.replaceWith(element);
  else $("rows").prepend(element);
  if (focused) element.firstChild.focus();
  if (!before) $("announce").textContent = `${row.reference} opened: ${row.name}`;
  else if (before.status !== row.status) $("announce").textContent = `${row.reference} is now ${row.status}`;
  counts();
  if (shown.reference === row.reference) showDetail(row.reference);
}

/** One line of a definition list; what is absent is said to be absent. */
function fact(name, ...values) {
  const given = values.filter((value) => value !== undefined && value !== null && value !== "");
  return [make("dt", {}, name), make("dd", {}, ...(given.length ? given : [make("span.none", {}, "none")]))];
}

const code = (text) => (text ? make("code", {}, text) : null);
const small = (text) => (text ? make("small", {}, text) : null);

function external(url, text) {
  if (!url) return null;
  return /^https?:[/][/]\S+$/.test(url) ? make("a", { href: url, rel: "noopener noreferrer", target: "_blank" }, text ?? url.replace(/^https?:[/][/]/, "")) : text ?? url;
}

function customValue(value) {
  const text = value.value_option?.value ?? value.value_catalog_entry?.name ?? value.value_text ?? value.value_numeric;
  return make("div", {}, text ?? external(value.value_link) ?? JSON.stringify(value));
}

const person = (user) => (user ? [user.name, small(user.email)] : []);

// Each field of an incident has its place; one that is not named here is shown under "More".
const HEADLINE = new Set(["reference", "name", "incident_status", "mode", "visibility", "summary"]);
const PEOPLE = new Set(["creator", "incident_role_assignments"]);
const FACTS = {
  severity: (it) => fact("Severity", it?.name, small(it?.description)),
  incident_type: (it) => fact("Type", it?.name, small(it?.description)),
  id: (it) => fact("ID", code(it)),
  permalink: (it) => fact("Permalink", external(it)),
  call_url: (it) => fact("Call", external(it)),
  postmortem_document_url: (it) => fact("Post-mortem", external(it)),
  slack_channel_name: (it) => fact("Slack channel", it),
  slack_channel_id: (it) => fact("Channel ID", code(it)),
  slack_team_id: (it) => fact("Slack team", code(it)),
  created_at: (it) => fact("Created", when(it), small(it)),
  updated_at: (it) => fact("Updated", when(it), small(it)),
};

function more(incident) {
  const placed = new Set([...HEADLINE, ...PEOPLE, ...Object.keys(FACTS), "custom_field_entries", "incident_timestamp_values"]);
  return Object.keys(incident).filter((name) => !placed.has(name));
}

function card(title, ...children) {
  return make("section.card", {}, make("h2", {}, title), ...children);
}

function listCard(title, facts) {
  return facts.length ? card(title, make("dl.facts", {}, ...facts.flat())) : null;
}

function raw(title, note, id, value) {
  return make(
    "details.card.raw", { id: `${id}-details` },
    make("summary", {}, title, make("small", {}, note)),
    make("div.command", {}, make("pre", { id, tabindex: "0" }, JSON.stringify(value, null, 2)), make("button.copy", { type: "button", "data-copy": id }, "Copy")),
  );
}

function summaryCard(html, isEdited) {
  const prose = make("div.prose");
  if (html) prose.innerHTML = html;
  else prose.append(make("p.none", {}, "No summary was given."));
  const title = make("span", {}, "Summary", isEdited ? make("small.mark", { title: "The request below has it as it was opened" }, "edited") : null);
  return card(title, prose);
}

/** What was attached: the first ones by name, the rest as a number. */
function attachmentsCard(links) {
  if (!links.length) return null;
  const items = links.slice(0, ATTACHMENTS_SHOWN).map((it) => make("li", {}, external(it.permalink, it.title)));
  const rest = links.length - items.length;
  return card(`Attachments (${links.length})`, make("ul.links", {}, ...items), rest ? make("p.none", {}, `and ${rest} more`) : null);
}

function people(incident) {
  const [[word, creator] = []] = Object.entries(incident.creator ?? {});
  const kind = { api_key: "API key", user: "person" }[word] ?? word;
  const roles = incident.incident_role_assignments.map((row) => fact(row.role.name, ...person(row.assignee)));
  return [fact("Creator", creator?.name ?? creator?.title, small(creator ? `${kind} ${creator.id}` : "")), ...roles];
}

const moment = (name, at) => (at ? fact(name, when(at), small(at)) : []);

const conditions = (route) => Object.entries(route.when).map(([name, value]) => `${name} is ${value}`).join(", ") || "every alert";

function alertCards(alert, route) {
  if (!alert) return [];
  const taken = fact("Route", route?.name ?? "none of them would take it", small(route && conditions(route)));
  const told = [fact("Title", alert.title), fact("State", alertChip(alert.status, alert.status)), moment("Fired", alert.created_at), moment("Resolved", alert.resolved_at)];
  const found = [taken, fact("Source URL", external(alert.source_url)), fact("Deduplication key", code(alert.deduplication_key))];
  const metadata = Object.entries(alert.metadata ?? {}).map(([name, value]) => fact(name, typeof value === "string" ? external(value) : code(JSON.stringify(value))));
  return [listCard("Alert", [...told, ...found]), listCard("Metadata, for alert routes", metadata)];
}

/** The buttons for what a person may do with it now. */
function buttons(row) {
  const button = (action, text, title) => make("button", { type: "button", title, "data-action": action }, text);
  if (DONE.has(row.category)) return null;
  return make(
    "div.buttons", {},
    row.category === "triage" ? button("accept", "Accept", "Out of triage, as a person would") : null,
    row.lead ? null : button("lead", "Lead", "Assign an incident lead"),
    button("close", "Close", "Close it, as a person would"),
  );
}

const back = () => make("a.back", { href: `/${shown.search}`, "data-route": "" }, "← All incidents");

function detail(found) {
  const { incident, row } = found;
  const title = make("div", {}, make("span.ref", {}, incident.reference), make("h1", { tabindex: "-1" }, incident.name), chips(row, pill(row)));
  const custom = incident.custom_field_entries.map((entry) => fact(entry.custom_field.name, ...entry.values.map(customValue)));
  const times = (incident.incident_timestamp_values ?? []).map((it) => moment(it.incident_timestamp.name, it.value?.value));
  const facts = Object.entries(FACTS).map(([name, show]) => (name in incident || name === "severity" ? show(incident[name]) : []));
  const rest = more(incident).map((name) => fact(name, code(JSON.stringify(incident[name]))));
  const key = found.request.idempotency_key ? fact("Idempotency key", code(found.request.idempotency_key)) : [];
  const opened = fact("Opened by", OPENED_BY[found.opened_by]);
  return [
    back(),
    make("div.title", {}, title, buttons(row)),
    make(
      "div.panes", {},
      make("div.column", {}, summaryCard(found.summary_html, row.edited.includes("summary")), attachmentsCard(found.attachments), ...alertCards(found.alert, found.route), listCard("Custom fields", custom)),
      make("div.column", {}, listCard("People", people(incident)), listCard("Timeline", times), listCard("Details", [...facts, opened, key]), listCard("More", rest)),
    ),
    raw("Request", found.alert ? "the alert event that opened it" : "the body that opened it", "raw-request", found.request),
    raw("Answer", found.alert ? "the incident that the alert route opened" : "what the API said then", "raw-answer", found.answer),
  ];
}

function missing(reference) {
  return [
    back(),
    make("div.empty", {}, make("h2", { tabindex: "-1" }, `There is no ${reference} here`), make("p", {}, "The sandbox forgets everything when it stops.")),
  ];
}

async function showDetail(reference) {
  // Without an answer the server is gone; its next snapshot asks again.
  const answer = await fetch(`/page/incidents/${reference}`).catch(() => null);
  if (!answer || (!answer.ok && answer.status !== 404)) return;
  const text = answer.ok ? await answer.text() : "";
  if (shown.reference !== reference || text === shown.raw) return;
  shown.raw = text;
  const found = text ? JSON.parse(text) : null;
  // An address may carry the ID; the events speak of references.
  if (found) shown.reference = found.incident.reference;
  document.title = found ? `${found.incident.reference} ${found.incident.name}` : "Not found · sandbox";
  const content = found ? detail(found) : missing(reference);
  const opened = [...document.querySelectorAll("details[open]")].map((element) => element.id);
  const focused = $("detail-view").contains(document.activeElement);
  $("detail-view").replaceChildren(...content);
  if (focused) document.querySelector("#detail-view [tabindex='-1']").focus();
  for (const id of opened) if (id && $(id)) $(id).open = true;
}

function route(focus) {
  const match = /^\/incidents\/([^/]+)$/.exec(location.pathname);
  shown.reference = match ? match[1] : null;
  shown.raw = null;
  $("list-view").hidden = match !== null;
  $("detail-view").hidden = match === null;
  $("detail-view").replaceChildren();
  counts();
  const ready = match ? showDetail(shown.reference) : Promise.resolve();
  ready.then(() => { if (focus) (match ? document.querySelector("#detail-view [tabindex='-1']") : $("main"))?.focus(); });
}

async function copy(button) {
  const text = $(button.dataset.copy).textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren($(button.dataset.copy));
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

async function act(button) {
  button.disabled = true;
  try {
    await fetch(`/page/incidents/${shown.reference}/${button.dataset.action}`, { method: "POST" });
  } finally {
    button.disabled = false;
  }
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-route]");
  const plain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
  if (link && plain) {
    event.preventDefault();
    if (!shown.reference) shown.search = location.search;
    history.pushState(null, "", link.getAttribute("href"));
    scrollTo(0, 0);
    route(true);
  }
  const button = event.target.closest("button");
  if (button?.dataset.copy) copy(button);
  if (button?.dataset.action) act(button);
});
addEventListener("popstate", () => route(true));
$("filters").addEventListener("input", ask);
$("filters").addEventListener("reset", () => setTimeout(ask));
$("filters").addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || shown.reference || event.target.closest("input, select") || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  $("filters").elements.q.focus();
});
setInterval(() => { for (const element of document.querySelectorAll("[data-ago]")) element.textContent = ago(element.dataset.ago); }, 5000);

// A browser opens six connections to one host at most: an incident in a tab that nobody sees gives its own back.
let events = null;

function live(on, text) {
  $("live").classList.toggle("on", on);
  $("live-text").textContent = text;
}

function connect() {
  events?.close();
  events = new EventSource("/page/events");
  events.addEventListener("open", () => live(true, "live"));
  events.addEventListener("snapshot", (event) => onSnapshot(JSON.parse(event.data)));
  events.addEventListener("incident", (event) => onIncident(JSON.parse(event.data)));
  events.addEventListener("error", () => {
    live(false, "reconnecting");
    if (events.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  });
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden && shown.reference) events?.close();
  else if (events?.readyState === EventSource.CLOSED) connect();
});
route(false);
connect();
