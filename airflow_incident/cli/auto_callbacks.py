"""What zero touch does here: whether it is on and found, which DAGs it covers, and what it makes of one of them."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from airflow_incident.airflow_bridge.config import AirflowConfig, read_config
from airflow_incident.cli.terminal import Finding
from airflow_incident.constants import CONFIG_SECTION, SWITCHES, TAG
from airflow_incident.core.settings import Settings, TagOptions, matches, merge, read_tags, why_left_out
from airflow_incident.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

POLICY = "airflow_incident.policy"
GLOBS = ("auto_include", "auto_exclude")
_MOST_DAGS = 5
"""DAGs that one finding names."""


def examine_policy(airflow_config: AirflowConfig) -> Iterator[Finding]:
    """Look at the options, at the policy's registration and at the DAGs that Airflow knows."""
    rules, wrong = _rules(airflow_config)
    for name, problem in wrong.items():
        told = f"[{CONFIG_SECTION}] {name} is {airflow_config.config[name]!r}, which counts as false: it {problem}"
        yield Finding("error", "zero touch", told, "Set it to true or false where DAGs are loaded, and restart there.")
    if not _asked(rules):
        if not wrong:
            told = f"off; [{CONFIG_SECTION}] auto_open would cover every DAG without editing one"
            yield Finding("ok", "zero touch", told)
        return
    if not any(point.value == POLICY for point in entry_points(group="airflow.policy")):
        told = f"{_asked(rules)} is true, but Airflow finds no policy of this package: no DAG is covered"
        yield Finding("error", "zero touch", told, "Install airflow-incident anew where DAGs are loaded.")
    try:
        dags = known_dags()
    except Exception as error:  # noqa: BLE001 -- a database raises whatever its driver raises
        told = f"on ({_asked(rules)}); Airflow's DAGs cannot be listed ({type(error).__name__})"
        yield Finding("warning", "zero touch", told, "Run this where Airflow's database is; see 'airflow db check'.")
        return
    wishes = {dag_id: read_tags(tags) for dag_id, tags in dags.items()}
    yield from _covered(rules, wishes)
    for conn_id in sorted({wish.conn_id for wish in wishes.values() if wish.conn_id}):
        yield from _named_connection(conn_id, airflow_config)


def explain_policy(dag_id: str, airflow_config: AirflowConfig) -> tuple[TagOptions | None, list[str]]:
    """Say what zero touch makes of one DAG: what its tags ask for, None if it opens nothing; and what to know."""
    rules, _ = _rules(airflow_config)
    tags: Sequence[str] | None = None
    notes = []
    try:
        tags = known_dags(dag_id).get(dag_id)
    except Exception as error:  # noqa: BLE001 -- a database raises whatever its driver raises
        notes.append(f"Airflow's database cannot be asked for the DAG's tags ({type(error).__name__}).")
    else:
        if tags is None:
            notes.append("Airflow's database does not know this DAG, nor its tags.")
    wishes = read_tags(tags or ())
    if not _asked(rules):
        return None, [*notes, "Zero touch is off: only what a DAG's file has opens and closes incidents."]
    if wishes.wrong:
        notes.append(f"Tags that are ignored: {', '.join(wishes.wrong)}.")
    why_not = f"its tag {TAG}off" if wishes.off else why_left_out(dag_id, rules)
    if why_not:
        return None, [*notes, f"Zero touch leaves this DAG alone: {why_not}."]
    if wishes.conn_id:
        notes.append(f"Its tag {TAG}conn={wishes.conn_id} names the connection.")
    covers = f"Zero touch ({_asked(rules)}) {'would cover' if tags is None else 'covers'} this DAG"
    told = f"{covers}, unless its file has a callback of ours: then tags count for nothing."
    return wishes if rules.auto_open else None, [*notes, told]


def known_dags(dag_id: str | None = None) -> Mapping[str, Sequence[str]]:
    """Return the DAGs that Airflow has loaded, or one of them, with their tags."""
    from airflow.models.dag import DagModel, DagTag
    from airflow.utils.session import create_session
    from sqlalchemy import select

    loaded = DagModel.is_stale.is_(False) if hasattr(DagModel, "is_stale") else DagModel.is_active.is_(True)
    query = select(DagModel.dag_id, DagTag.name).outerjoin(DagTag, DagTag.dag_id == DagModel.dag_id).where(loaded)
    if dag_id is not None:
        query = query.where(DagModel.dag_id == dag_id)
    dags: dict[str, list[str]] = {}
    with create_session() as session:
        for known, tag in session.execute(query):
            dags.setdefault(known, []).extend([tag] if tag else [])
    return dags


def known_owners(dag_id: str) -> str | None:
    """Return who owns a DAG, as Airflow writes it: with commas between."""
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        owners: str | None = session.scalar(select(DagModel.owners).where(DagModel.dag_id == dag_id))
    return owners


def _rules(airflow_config: AirflowConfig) -> tuple[Settings, dict[str, str]]:
    """Read the options as the policy does; tell what is wrong with which of the switches."""
    config = {name: airflow_config.config.get(name, "") for name in (*SWITCHES, *GLOBS)}
    settings, problems, _ = merge(config=config)
    return settings, {problem.option: problem.what for problem in problems}


def _covered(rules: Settings, dags: Mapping[str, TagOptions]) -> Iterator[Finding]:
    """Count what is left out, and name what looks like a slip: a glob without DAGs, a tag that is ignored.

    Which of the others have a callback of ours already, only their files tell.
    """
    left_out = sum(wishes.off or bool(why_left_out(dag_id, rules)) for dag_id, wishes in dags.items())
    globs = {name: getattr(rules, name) or () for name in GLOBS}
    limits = [f"{name} = {', '.join(given)}" for name, given in globs.items() if given]
    on = f"on ({_asked(rules)})"
    if dags:
        on += f"; of {len(dags)} DAGs it leaves out {left_out or 'none'}, and those whose files have a callback of ours"
    told = "; ".join([on, *limits])
    yield Finding("ok", "zero touch", told)
    for name, glob in ((name, glob) for name, given in globs.items() for glob in given):
        if dags and not any(matches(dag_id, [glob]) for dag_id in dags):
            told = f"[{CONFIG_SECTION}] {name}: {glob!r} is the name of no DAG"
            yield Finding("warning", "zero touch", told, "Fix it, or remove it; case counts.")
    odd = [f"{dag_id} ({', '.join(dags[dag_id].wrong)})" for dag_id in sorted(dags) if dags[dag_id].wrong]
    if odd:
        more = f" and {len(odd) - _MOST_DAGS} more" if len(odd) > _MOST_DAGS else ""
        told = f"DAGs have tags that are ignored: {', '.join(odd[:_MOST_DAGS])}{more}"
        yield Finding("warning", "zero touch", told, f"Use, each once: {TAG}off, {TAG}severity=…, {TAG}conn=…")


def _named_connection(conn_id: str, airflow_config: AirflowConfig) -> Iterator[Finding]:
    """Tell what keeps a connection that tags name from being used."""
    try:
        read_config(conn_id, airflow_config)
    except ConfigurationError as error:
        problems = "; ".join(map(str, error.problems))
        yield Finding("error", "zero touch", f"tag {TAG}conn={conn_id}: {problems}", error.advice)
    except Exception as error:  # noqa: BLE001 -- a secrets backend may raise anything
        told = f"tag {TAG}conn={conn_id}: the connection cannot be read ({type(error).__name__})"
        yield Finding("error", "zero touch", told, "Check Airflow's secrets backend and its database.")


def _asked(rules: Settings) -> str:
    return ", ".join(name for name in SWITCHES if getattr(rules, name))


def dag_of_database(dag_id: str, notes: list[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Read a DAG's tags and owners; what keeps them from being known becomes a note."""
    from airflow_incident.airflow_bridge.context import read_owners

    try:
        tags = known_dags(dag_id).get(dag_id)
        owners = read_owners(known_owners(dag_id))
    except Exception as error:  # noqa: BLE001 -- a database raises whatever its driver raises
        notes.append(f"Airflow's database cannot be asked for the DAG's tags and owners ({type(error).__name__}).")
        return (), ()
    if tags is None:
        notes.append("Airflow's database does not know this DAG, nor its tags and owners.")
    return tags or (), owners
