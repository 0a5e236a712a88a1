"""Runs contestants in fresh processes, one after another and in alternating order, and keeps their figures."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.contestants import Contestant
from benchmarks.environment import ROOT
from benchmarks.server import Server

TIMEOUT = 120.0
"""Seconds after which a process is given up."""

Figures = dict[str, float]


class ProbeError(Exception):
    """A process could not be measured; says why."""


@dataclass(frozen=True)
class Heat:
    """Contestants that are compared under one condition.

    `loaded` are modules that the process has imported before, besides `airflow.sdk`.
    """

    title: str
    contestants: list[Contestant]
    loaded: tuple[str, ...] = ()


@dataclass
class Results:
    """Figures of every round by heat and contestant, and why some are missing."""

    figures: dict[str, dict[str, list[Figures]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    troubles: dict[str, str] = field(default_factory=dict)

    def of(self, heat: str, contestant: str, figure: str) -> list[float]:
        """Return one figure of every round; empty if it could not be measured."""
        if f"{heat}: {contestant}" in self.troubles:
            return []
        return [figures[figure] for figures in self.figures[heat][contestant] if figure in figures]


@dataclass(frozen=True)
class Track:
    """Where contestants run: a Python with Airflow, a home for it, the server that is notified and who is trusted."""

    python: Path
    home: Path
    server: Server
    ca_bundle: str

    def run(self, heats: list[Heat], rounds: int) -> Results:
        """Run every heat once to warm the disk, then `rounds` times, forwards and backwards in turn."""
        results = Results()
        for number in range(rounds + 1):
            print(f"round {number} of {rounds}" if number else "warming up", file=sys.stderr, flush=True)
            for heat in heats:
                for contestant in heat.contestants[:: 1 if number % 2 else -1]:
                    self._try(results, heat, contestant, keep=number > 0)
        return results

    def _try(self, results: Results, heat: Heat, contestant: Contestant, *, keep: bool) -> None:
        name = f"{heat.title}: {contestant.name}"
        if name in results.troubles:
            return
        try:
            figures = self._measure(heat, contestant)
        except ProbeError as error:
            results.troubles[name] = str(error)
            return
        if keep:
            results.figures[heat.title][contestant.name].append(figures)

    def _measure(self, heat: Heat, contestant: Contestant) -> Figures:
        """Measure one fresh process, and make sure that both its notifications came in.

        :raises ProbeError: if it did not end well.
        """
        job = {"dag_file": contestant.dag_file, "unmeasured": contestant.unmeasured, "loaded": heat.loaded}
        before = self.server.count
        try:
            done = subprocess.run(
                [self.python, "-m", "benchmarks.probe"],
                input=json.dumps(job),
                env=self._environment(contestant),
                cwd=self.home,
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ProbeError(f"no end after {TIMEOUT:.0f} s") from None
        if done.returncode:
            raise ProbeError(done.stderr.strip().rpartition("\n")[2])
        figures: Figures = json.loads(done.stdout)
        if "notify_ms" in figures and self.server.count < before + 2:
            raise ProbeError(f"a notification did not come in: {done.stderr.strip()[-500:]}")
        return figures

    def _environment(self, contestant: Contestant) -> dict[str, str]:
        """Leave nothing of the caller's Airflow, Python and proxies."""
        ours = ("AIRFLOW", "PYTHON", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "SSL_CERT", "COVERAGE")
        inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith(ours)}
        connections = {f"AIRFLOW_CONN_{i.upper()}": json.dumps(fields) for i, fields in contestant.connections.items()}
        return (
            inherited
            | connections
            | {
                "AIRFLOW_HOME": str(self.home),
                "AIRFLOW__INCIDENT_IO__DEPLOYMENT": "benchmark",
                # It needs a database; what it costs is measured in an Airflow, by benchmarks/journal.py.
                "AIRFLOW__INCIDENT_IO__JOURNAL": "False",
                "PYTHONPATH": str(ROOT),
                "SSL_CERT_FILE": self.ca_bundle,
            }
        )
