"""`airflow-incident routes`: which rules hold for a DAG and what they set, and what is wrong with their file.

Airflow is imported only when it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_incident.cli.doctor import show
from airflow_incident.cli.terminal import UsageError, add_command, add_common, add_json, answer, indented, quiet, say
from airflow_incident.constants import CONFIG_SECTION

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from airflow_incident.airflow_bridge.config import AirflowConfig
    from airflow_incident.core.failure import Failure
    from airflow_incident.core.routes import Routes

_COLUMNS = 10
_UNSET = f"[{CONFIG_SECTION}] routes_file is not set, so there are no rules"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a command line."""
    told = "Try the rules of `routes_file`, which set options by DAG, tag, owner, task and run type. Opens nothing."
    parser = commands.add_parser("routes", help="try the rules of routes_file", description=told)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    testing = add_command(
        actions,
        "test",
        _test,
        summary="say which rules hold for a DAG, and what its failures are given",
        description="Say which rules hold for a DAG, and what its failures are given by them and by everything else. "
        "Exit status 2 if there are no rules to try, or what is given makes no sense.",
    )
    testing.add_argument("dag_id", metavar="DAG_ID")
    here = "default: as Airflow's database says"
    testing.add_argument("--tag", metavar="TAG", action="append", help=f"a tag of the DAG, may be repeated; {here}")
    testing.add_argument("--owner", metavar="OWNER", action="append", help=f"an owner, may be repeated; {here}")
    testing.add_argument("--task", metavar="TASK_ID", help="the task that failed; default: the run as a whole")
    testing.add_argument("--run-type", metavar="RUN_TYPE", help="how the run came to be, like scheduled or manual")
    add_common(testing)
    testing.set_defaults(conn_id="")
    checking = add_command(
        actions,
        "check",
        _check,
        summary="say what is wrong with a file of rules",
        description="Say what is wrong with a file of rules: line, rule and key. Exit status 1 if anything is.",
    )
    checking.add_argument("file", metavar="FILE", nargs="?", help="the file; default: the one of routes_file")
    add_json(checking)


def _check(args: argparse.Namespace) -> int:
    with quiet():
        from airflow_incident.airflow_bridge.config import read_airflow_config
        from airflow_incident.cli.route_checks import examine_file

        if not (given := args.file or read_airflow_config().config.get("routes_file")):
            raise UsageError(f"{_UNSET}; give a FILE")
        if args.file:
            from pathlib import Path

            given = str(Path(args.file).absolute())
        found = list(examine_file(given))
    return show(found, as_json=args.json)


def _test(args: argparse.Namespace) -> int:
    with quiet():
        told = _tested(args)
    if args.json:
        answer(told)
    else:
        say("\n".join(_lines(told)))
    return 0


def _tested(args: argparse.Namespace) -> dict[str, Any]:
    """Try the rules."""
    from airflow_incident.airflow_bridge.config import examine_config, read_airflow_config, why_disabled
    from airflow_incident.cli.explain import settings_told
    from airflow_incident.core.routes import facts_of

    airflow_config = read_airflow_config()
    routes = usable_routes(airflow_config)
    notes: list[str] = []
    failure = _failure(args, notes)
    routed = routes.apply(failure)
    config = examine_config(args.conn_id, airflow_config, routed)
    facts = facts_of(failure)
    origins = {name: routed.origin(name) for name in routed.rules}
    if why := why_disabled(airflow_config, routed):
        notes.append(f"Nothing is opened: {why}.")
    if config.unusable:
        notes.append(f"{config.unusable}. {config.unusable.advice}")
    if routed.problems:
        notes.append(f"{routed.warning}.")
    notes.append("An argument in the DAG file, which is unknown here, goes before each of these settings.")
    besides = {name: routed.options[name] for name in ("name", "summary") if name in routed.options}
    settings: dict[str, Mapping[str, str]] = {"conn_id": {"value": config.conn_id, "from": _conn_origin(args, origins)}}
    settings |= {name: {"value": value, "from": origins[name]} for name, value in besides.items()}
    settings |= {name: told for name, told in settings_told(config, {}) if told["from"] != "default"}
    return {
        "file": routes.file,
        "rules": len(routes.rules),
        "failure": {name: ", ".join(values) for name, values in facts.items()},
        "hold": [
            {
                "rule": str(rule),
                "sets": [name for name in rule.options if routed.rules[name] is rule],
                "set_before": {
                    name: str(routed.rules[name]) for name in rule.options if routed.rules[name] is not rule
                },
            }
            for rule in routes.rules
            if rule.holds(facts)
        ],
        "settings": settings,
        "notes": notes,
    }


def _conn_origin(args: argparse.Namespace, origins: dict[str, str]) -> str:
    return "given here" if args.conn_id else origins.get("conn_id", "default")


def usable_routes(airflow_config: AirflowConfig) -> Routes:
    """Return the rules.

    :raises UsageError: if there are none, or none can be read.
    """
    from airflow_incident.airflow_bridge.routes import read_routes
    from airflow_incident.cli.route_checks import is_unread

    if not (given := airflow_config.config.get("routes_file")):
        raise UsageError(f"{_UNSET}; docs/how-to/routes.md shows how to begin")
    routes = read_routes(given)
    if is_unread(routes):
        raise UsageError(f"{routes.file}, {routes.problems[0]}")
    return routes


def _failure(args: argparse.Namespace, notes: list[str]) -> Failure:
    """Make the failure of what is given, and of what Airflow's database knows of the DAG."""
    from airflow.utils.types import DagRunType

    from airflow_incident.core.failure import Failure

    types = [str(each.value) for each in DagRunType]
    if args.run_type is not None and args.run_type not in types:
        raise UsageError(f"there is no run type {args.run_type!r}; known: {', '.join(types)}")
    if not args.dag_id.strip():
        raise UsageError("DAG_ID is empty")
    tags, owners = args.tag, args.owner
    if tags is None or owners is None:
        from airflow_incident.cli.auto_callbacks import dag_of_database

        known = dag_of_database(args.dag_id, notes)
        tags, owners = (
            given if given is not None else found for given, found in zip((tags, owners), known, strict=True)
        )
    return Failure(args.dag_id, "", task_id=args.task, run_type=args.run_type, tags=tuple(tags), owners=tuple(owners))


def _lines(told: dict[str, Any]) -> Iterator[str]:
    """Say it in aligned columns."""
    from airflow_incident.delivery.outcome import clean

    count = told["rules"]
    yield from indented(f"{'file':<{_COLUMNS}}", f"{told['file']}, {count} rule{'s' * (count != 1)}")
    for name, value in told["failure"].items():
        yield from indented(f"{name:<{_COLUMNS}}", clean(value) or "-")
    yield ""
    for held in told["hold"]:
        parts = [f"sets {', '.join(held['sets'])}"] if held["sets"] else []
        parts += [f"{name} is set by {rule}" for name, rule in held["set_before"].items()]
        yield from indented(f"{held['rule']}: ", "; ".join(parts))
    if not told["hold"]:
        yield "No rule holds."
    yield ""
    wide = max(map(len, told["settings"])) + 2
    for name, setting in told["settings"].items():
        yield from indented(f"{name:<{wide}}", f"{clean(setting['value']) or '-'}  ({setting['from']})")
    yield ""
    for note in told["notes"]:
        yield from indented("", clean(note))
