"""`airflow-incident doctor`: what keeps incidents from opening here, and what to do about it.

Airflow is imported only when it runs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_incident.cli.terminal import add_common, indented, quiet, say, start

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from airflow_incident.cli.doctor import Finding

_LEVEL = 9
_CHECK = 17
"""Columns of a finding's level and of what was looked at."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a command line."""
    told = (
        "Look at the connection, the API key, names, deployment, journal, clock and versions. Opens nothing. "
        "Exit status 1 if anything is wrong."
    )
    parser = commands.add_parser(
        "doctor", help="say what keeps incidents from opening", description=told, allow_abbrev=False
    )
    add_common(parser)
    start(parser, "doctor", _doctor)


def _doctor(args: argparse.Namespace) -> int:
    findings: list[Finding] = []
    for finding in _findings(args.conn_id):
        findings.append(finding)
        if not args.json:
            say(_told(finding))
    counts = {level: sum(finding.level == level for finding in findings) for level in ("error", "warning", "ok")}
    if args.json:
        say(json.dumps({"counts": counts, "findings": [finding._asdict() for finding in findings]}, indent=2))
    else:
        say(_closing(counts["error"], counts["warning"]))
    return 1 if counts["error"] else 0


def _findings(conn_id: str) -> Iterator[Finding]:
    """Examine, and make each finding one that a terminal can show and everybody may see."""
    with quiet():
        from airflow_incident.airflow_bridge.compat import redact
        from airflow_incident.cli.doctor.checks import examine  # imports Airflow
        from airflow_incident.delivery.outcome import clean

        found = examine(conn_id)
    while True:
        with quiet():
            finding = next(found, None)
        if finding is None:
            return
        known = str(redact(finding.text))
        yield finding._replace(text=clean(known), advice=clean(finding.advice))


def _told(finding: Finding) -> str:
    """Say a finding in aligned columns; what is to be done is on lines of its own."""
    head = f"{finding.level:<{_LEVEL}}{finding.check:<{_CHECK}}"
    lines: Sequence[str] = [*indented(head, finding.text)]
    if finding.advice:
        lines = [*lines, *indented(" " * (_LEVEL + _CHECK - 3) + "-> ", finding.advice)]
    return "\n".join(lines)


def _closing(errors: int, warnings: int) -> str:
    if not errors and not warnings:
        return "All is well."
    counts = ((errors, "error"), (warnings, "warning"))
    return ", ".join(f"{count} {what}{'s' * (count > 1)}" for count, what in counts if count) + "."
