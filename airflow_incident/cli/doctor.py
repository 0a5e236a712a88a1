"""`airflow-incident doctor`: what keeps incidents from opening here, and what to do about it.

Airflow is imported only when it runs.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from airflow_incident.cli.terminal import Finding, add_command, add_common, answer, indented, quiet, say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

_LEVEL = 9
_CHECK = 17
"""Columns of a finding's level and of what was looked at."""
LEVELS = ("error", "warning", "ok")
"""What comes first."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a command line."""
    parser = add_command(
        commands,
        "doctor",
        _doctor,
        summary="say what keeps incidents from opening",
        description="Look at the connection, the API key, names, deployment, journal, clock and versions. "
        "Opens nothing. Exit status 1 if anything is wrong.",
    )
    add_common(parser)


def _doctor(args: argparse.Namespace) -> int:
    with quiet("Looking at this installation and at incident.io"):
        found = list(_findings(args.conn_id))
    return show(found, as_json=args.json)


def show(found: Iterable[Finding], *, as_json: bool) -> int:
    """Print findings, what is wrong first; return 1 if anything is an error."""
    findings = sorted(found, key=lambda finding: LEVELS.index(finding.level))
    counts = {level: sum(finding.level == level for finding in findings) for level in LEVELS}
    if as_json:
        answer({"counts": counts, "findings": [finding._asdict() for finding in findings]})
        return 1 if counts["error"] else 0
    for _, group in groupby(findings, lambda finding: finding.level):
        by_advice: dict[str, list[Finding]] = {}
        for finding in group:
            by_advice.setdefault(finding.advice, []).append(finding)
        for advice, alike in by_advice.items():
            say("\n".join(_told(alike, advice)))
        say("")
    say(_closing(counts["error"], counts["warning"]))
    return 1 if counts["error"] else 0


def _findings(conn_id: str) -> Iterator[Finding]:
    """Examine, and make each finding one that a terminal can show and everybody may see."""
    from airflow_incident.airflow_bridge.compat import redact
    from airflow_incident.cli.checks import examine  # imports Airflow
    from airflow_incident.delivery.outcome import clean

    for finding in examine(conn_id):
        yield finding._replace(text=clean(str(redact(finding.text))), advice=clean(finding.advice))


def _told(alike: Iterable[Finding], advice: str) -> Iterator[str]:
    """Say findings in aligned columns; what is to be done about them is on lines of its own, once."""
    for finding in alike:
        yield from indented(f"{finding.level:<{_LEVEL}}{finding.check:<{_CHECK}}", finding.text)
    if advice:
        yield from indented(" " * (_LEVEL + _CHECK - 3) + "-> ", advice)


def _closing(errors: int, warnings: int) -> str:
    if not errors and not warnings:
        return "All is well."
    counts = ((errors, "error"), (warnings, "warning"))
    return ", ".join(f"{count} {what}{'s' * (count > 1)}" for count, what in counts if count) + "."
