"""`airflow-incident watch`: the process that finds what no callback has told."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_incident.cli.terminal import CommandError, Finding, UsageError, add_command, remark, say, screens
from airflow_incident.constants import CONFIG_SECTION
from airflow_incident.core.timing import LONGEST_REPORT, LONGEST_WAIT, ROUND_SECONDS, STUCK_SECONDS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from airflow_incident.core.settings import Settings, TagOptions
    from airflow_incident.errors import Problem
    from airflow_incident.watcher.decide import Recovered

log = logging.getLogger(__name__)

DESCRIPTION = (
    "Compare Airflow's database with the journal every 30 seconds, and act on the difference: deliver what waits, "
    "open incidents for failed runs that have none (with [incident_io] auto_open), close those of runs that are "
    "successful now (auto_resolve), and open and close incidents for DAG files that cannot be imported "
    "(import_errors). Run it where Airflow's database can be reached, like a scheduler; two of them are harmless."
)
_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_SHORTEST, _LONGEST = 1.0, 3600.0
"""Seconds between two rounds."""
_MISSED = 4
"""After so many rounds that did not come, a watcher is thought to be gone."""
_START = "Run 'airflow-incident watch' where Airflow's database is, or 'airflow-incident watch --once' from cron."
_PATIENCE = LONGEST_WAIT - LONGEST_REPORT
"""Seconds that a callback may wait for the connection: nobody waits for the watcher."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = add_command(
        commands, "watch", _watch, summary="find what no callback has told, and act on it", description=DESCRIPTION
    )
    parser.set_defaults(verbose=True)  # what is held back for a short command would pile up here
    parser.add_argument("--once", action="store_true", help="carry out one round and end, for cron")
    told = f"from one round to the next; default: {ROUND_SECONDS:.0f}"
    parser.add_argument("--interval", metavar="SECONDS", type=float, default=ROUND_SECONDS, help=told)


def _watch(args: argparse.Namespace) -> int:
    if not _SHORTEST <= args.interval <= _LONGEST:
        raise UsageError(f"--interval must be from {_SHORTEST:.0f} to {_LONGEST:.0f} seconds")

    from airflow_incident.watcher.process import round_line, run_until_stopped, why
    from airflow_incident.watcher.round import Watcher

    _log_to_output()
    settings, problems = read_settings()
    for problem in problems:
        say(f"watcher: {problem}; left out")
    if not settings.journal:
        told = f"[{CONFIG_SECTION}] journal is false: nobody knows which failures have an incident. Remove it"
        raise CommandError(told)
    stop = threading.Event()
    duties = duties_of(settings)
    callbacks, every = WatcherCallbacks(duties.covers), 0.0 if args.once else args.interval
    watcher = Watcher(duties, callbacks, every=every, stopping=stop.is_set)
    if args.once:
        guard = threading.Timer(STUCK_SECONDS, _give_up)
        guard.daemon = True
        guard.start()
        try:
            say(f"watcher: {round_line(watcher.round())}")
        except Exception as error:  # noqa: BLE001 -- a database raises what it likes
            raise CommandError(f"the round failed: {why(error)}") from None
        finally:
            guard.cancel()
        return 0
    say(f"watcher: a round every {args.interval:g} s; {_told(settings)}")
    last = run_until_stopped(watcher.round, every=args.interval, stop=stop)
    if last != "ended":
        logging.shutdown()
        os._exit(last == "stuck")  # a database that does not answer would keep the thread, and Python with it
    return 0


def _give_up() -> None:
    """End a round that a database without an answer would keep for ever, and cron's next one with it."""
    remark("watch", f"the round has not ended for {STUCK_SECONDS:.0f} s; it ends")
    logging.shutdown()
    os._exit(1)


def heartbeat() -> Finding:
    """Tell whether a watcher lives, and what it means if none does."""
    from airflow_incident.airflow_bridge.variables import Variables
    from airflow_incident.core.text import format_span
    from airflow_incident.core.timing import OVERDUE
    from airflow_incident.delivery.record import utc_now
    from airflow_incident.watcher.state import NAME, read_state

    state, (settings, _) = read_state(Variables().get(NAME)), read_settings()
    if state.last_round is None:
        told = "none has run here: a failure whose callback was lost stays unknown"
        if settings.import_errors:
            return Finding("error", "watcher", f"{told}, and import_errors has no effect", _START)
        return Finding("ok", "watcher", told, _START)
    ago = utc_now() - state.last_round
    expected = timedelta(seconds=_MISSED * state.every + state.seconds) if state.every else OVERDUE
    how = f"a round every {state.every:g} s" if state.every else "by watch --once"
    told = f"last round {format_span(ago) or '0 s'} ago, {how}, {state.seconds:.1f} s long"
    if not settings.auto_open:
        told += "; it opens nothing for failed runs, for auto_open is not set"
    return Finding("warning", "watcher", told, _START) if ago > expected else Finding("ok", "watcher", told)


def read_settings() -> tuple[Settings, list[Problem]]:
    """Read what airflow.cfg says to the watcher, and what of it cannot be used."""
    from airflow_incident.airflow_bridge.config import read_airflow_config
    from airflow_incident.core.settings import merge

    settings, problems, _ = merge(config=read_airflow_config().config)
    return settings, problems


def duties_of(settings: Settings) -> Any:
    """Say what the watcher is to open and close."""
    from airflow_incident.core.settings import why_left_out
    from airflow_incident.watcher.decide import Duties

    return Duties(
        opens=settings.auto_open,  # what is not enabled is left out, so it stays silent once it is
        closes=settings.auto_resolve,
        import_after=timedelta(minutes=settings.import_error_minutes) if settings.import_errors else None,
        covers=lambda dag_id: not why_left_out(dag_id, settings),
        always=settings.resolve == "always",
    )


def _told(settings: Settings) -> str:
    """Say what it opens and closes."""
    opens, closes = "opens incidents for failed runs that have none", "closes those of runs that succeed"
    if not settings.auto_open:
        opens = f"opens none for failed runs, for [{CONFIG_SECTION}] auto_open is not set"
    elif not settings.enabled:
        opens = f"opens none for failed runs, for [{CONFIG_SECTION}] enabled is false, unless a rule enables their DAG"
    if not settings.auto_resolve:
        closes = f"closes none, for [{CONFIG_SECTION}] auto_resolve is not set"
    files = f"DAG files broken for {settings.import_error_minutes} min have one, too" if settings.import_errors else ""
    return "; ".join(filter(None, ["delivers what waits", opens, closes, files]))


def _log_to_output() -> None:
    """Say what is done, and nothing else, on standard output, where a process manager looks."""
    output, _ = screens()
    handler = logging.StreamHandler(output)
    handler.setFormatter(logging.Formatter(_FORMAT))
    ours = logging.getLogger("airflow_incident")
    ours.handlers, ours.propagate = [handler], False
    ours.setLevel(logging.INFO)
    logging.getLogger().setLevel(logging.ERROR)
    for others in logging.getLogger().handlers:
        others.setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


class WatcherCallbacks:
    """Calls what zero touch would have put into the DAG."""

    def __init__(self, covers: Callable[[str], bool]) -> None:
        self._covers = covers

    def failed(self, context: Any) -> bool:
        """Open the incident of a failed run, unless tags or a rule forbid it; return whether it may have one."""
        from airflow_incident.core.settings import read_tags

        dag = context["dag"]
        wishes = read_tags((dag["tags"] if isinstance(dag, dict) else dag.tags) or ())
        return not wishes.off and _open(wishes, context)

    def recovered(self, context: Any, success: Recovered) -> None:
        """Close what a run or a task has open, with what its record says."""
        from airflow_incident.delivery.outcome import clean
        from airflow_incident.errors import ConfigurationError
        from airflow_incident.notifications import resolve_incident

        try:
            callback = resolve_incident(
                conn_id=success.conn_id, channel=success.channel, scope=success.scope, deployment=success.deployment
            )
        except ConfigurationError as error:  # a record is what anybody wrote into the database
            log.warning("incident.io: the incident of DAG %s stays open: %s", success.run.dag_id, clean(str(error)))
            return
        callback.notify_within(context, patience=_PATIENCE)

    def broken(self, context: Any) -> None:
        """Open the incident of a DAG file, unless none of the DAGs that it held may have one."""
        from airflow_incident.core.settings import read_tags

        tags = context["import_error"]["tags"]
        kept = [dag for dag in tags if self._covers(dag) and not read_tags(tags[dag]).off]
        if kept or not tags:
            context["dag"]["tags"] = sorted({tag for dag in kept for tag in tags[dag]})
            _open(read_tags(context["dag"]["tags"]), context)


def _open(wishes: TagOptions, context: Any) -> bool:
    from airflow_incident.notifications import open_incident

    callback = open_incident(severity=wishes.severity, conn_id=wishes.conn_id or "")
    return callback.notify_within(context, patience=_PATIENCE)
