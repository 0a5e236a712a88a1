"""`airflow-incident doctor`: what keeps incidents from opening here, and what to do about it.

Airflow is imported only when it runs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_incident.cli.terminal import Finding, add_command, add_common, indented, quiet, say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

_LEVEL = 9
_CHECK = 17
"""Columns of a finding's level and of what was looked at."""


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
    return show(_findings(args.conn_id), as_json=args.json)


def show(found: Iterable[Finding], *, as_json: bool) -> int:
    """Print findings as they are found; return 1 if anything is an error."""
    findings: list[Finding] = []
    for finding in found:
        findings.append(finding)
        if not as_json:
            say(_told(finding))
    counts = {level: sum(finding.level == level for finding in findings) for level in ("error", "warning", "ok")}
    if as_json:
        say(json.dumps({"counts": counts, "findings": [finding._asdict() for finding in findings]}, indent=2))
    else:
        say(_closing(counts["error"], counts["warning"]))
    return 1 if counts["error"] else 0


def _findings(conn_id: str) -> Iterator[Finding]:
    """Examine, and make each finding one that a terminal can show and everybody may see."""
    with quiet():
        from airflow_incident.airflow_bridge.compat import redact
        from airflow_incident.cli.checks import examine  # imports Airflow
        from airflow_incident.delivery.outcome import clean

        found = examine(conn_id)
    while True:
        with quiet():
            finding = next(found, None)
        if finding is None:
            return
        yield finding._replace(text=clean(str(redact(finding.text))), advice=clean(finding.advice))


def _told(finding: Finding) -> str:
    """Say a finding in aligned columns; what is to be done is on lines of its own."""
    lines = indented(f"{finding.level:<{_LEVEL}}{finding.check:<{_CHECK}}", finding.text)
    if finding.advice:
        lines += indented(" " * (_LEVEL + _CHECK - 3) + "-> ", finding.advice)
    return "\n".join(lines)


def _closing(errors: int, warnings: int) -> str:
    if not errors and not warnings:
        return "All is well."
    counts = ((errors, "error"), (warnings, "warning"))
    return ", ".join(f"{count} {what}{'s' * (count > 1)}" for count, what in counts if count) + "."
