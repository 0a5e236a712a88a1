"""What was seen of one Airflow, as a table, and what of it should not be. No Airflow, no network, no clock."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tools.e2e.names import IDS, LONGEST, MOST, Run

OURS = "airflow_incident/"
FRAME = re.compile(r'File "(?:.*/site-packages/)?(.+)", line (\d+) in (\S+)')
WIDTH = 10
"""Characters of an ID that are shown."""
OF_DATABASE = re.compile("sqlalchemy|psycopg|asyncpg|sqlite")
SILENCE = 30
"""Seconds that the neighbour's trigger may be silent while nothing of Airflow's is away."""


class Ending(NamedTuple):
    """A component that ended by itself; `is_shaken`: with the database away; `is_ours`: with our code in its trace."""

    name: str
    code: int
    is_shaken: bool
    reason: str
    is_ours: bool

    @property
    def is_airflows(self) -> bool:
        """Whether Airflow would have ended without us, too."""
        return self.is_shaken and not self.is_ours and OF_DATABASE.search(self.reason) is not None


class Leftover(NamedTuple):
    """A process that should have ended, and where it stands."""

    component: str
    pid: int
    stack: str

    def told(self) -> str:
        """Say where it stands, the latest call first; stacks.txt has it all."""
        frames = [f"{file}:{line}, {name}" for file, line, name in FRAME.findall(self.stack)]
        ours = [frame for frame in frames if OURS in frame][:1] or ["none of ours"]
        where = " < ".join(dict.fromkeys([*frames[:2], *ours]))
        return f"process {self.pid} of the {self.component} has not ended: {where}"


@dataclass(kw_only=True)
class Seen:
    """The end of a session.

    :param refused: the IDs that Airflow refuses, and how it says so.
    :param runs: every run that was to fail.
    :param failed: IDs of the runs that failed, and of those that succeeded once they were cleared.
    :param incidents: what incident.io has, as v1 shows it.
    :param too_early: references of incidents that were closed before anything recovered.
    :param neighbour: the states of the neighbour's runs.
    :param silence: seconds for which the neighbour's trigger was longest silent.
    :param remarks: what took too long, in words.
    """

    refused: dict[str, str]
    runs: list[Run]
    failed: set[str] = field(default_factory=set)
    recovered: set[str] = field(default_factory=set)
    incidents: list[dict[str, Any]] = field(default_factory=list)
    too_early: list[str] = field(default_factory=list)
    starts: Counter[str] = field(default_factory=Counter)
    endings: list[Ending] = field(default_factory=list)
    neighbour: dict[str, str] = field(default_factory=dict)
    silence: float = 0.0
    leftovers: list[Leftover] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def own(self, run: Run) -> list[dict[str, Any]]:
        """Pick the incidents that speak of a run."""
        return [incident for incident in self.incidents if run.run_id in str(incident["summary"])]

    def table(self) -> Iterator[str]:
        """Yield the lines of the table."""
        columns = ("failed", "incidents", "twice", "lost", "closed", "recovered")
        yield f"{'scenario':14}{'id':12}{'runs':>6}" + "".join(f"{column:>11}" for column in columns)
        for scenario in dict.fromkeys(run.scenario for run in self.runs):
            for name in IDS:
                if runs := [run for run in self.runs if (run.scenario, run.name) == (scenario, name)]:
                    yield f"{scenario:14}{padded(name)}{len(runs):6}" + "".join(map("{:11}".format, self.figures(runs)))
        for name, why in self.refused.items():
            yield f"{'all':14}{padded(name)} refused by Airflow: {why}"
        if LONGEST < MOST:
            yield f"{'all':14}{MOST} of x     refused by Airflow 2's rights, which take {LONGEST} characters"
        yield f"\n{'component':14}{'started':>8}{'ended without the database':>28}{'ended otherwise':>17}"
        for name, count in self.starts.items():
            airflows = sum(each.is_airflows for each in self.endings if each.name == name)
            others = sum(not each.is_airflows for each in self.endings if each.name == name)
            yield f"{name:14}{count:8}{airflows:28}{others:17}"
        states = ", ".join(f"{count} {state}" for state, count in Counter(self.neighbour.values()).items())
        yield f"\nneighbour's runs: {states}; its trigger was silent for {self.silence:.0f} s at most"
        yield f"processes that should have ended: {len(self.leftovers)}"

    def figures(self, runs: list[Run]) -> tuple[int, ...]:
        """Count what became of some runs."""
        counts = [len(self.own(run)) for run in runs]
        return (
            sum(run.run_id in self.failed for run in runs),
            sum(counts),
            sum(max(0, count - 1) for count in counts),
            counts.count(0),
            sum(self._is_closed(run) for run in runs),
            sum(run.run_id in self.recovered for run in runs),
        )

    def _is_closed(self, run: Run) -> bool:
        own = self.own(run)
        return bool(own) and all(incident["status"] == "closed" for incident in own)

    def wrong(self) -> list[str]:
        """Tell everything that should not be."""
        wrong = list(self.remarks)
        for run in self.runs:
            named = f"{run.scenario}: run {run.run_id} of {shown(run.name)}"
            if run.run_id not in self.failed:
                wrong.append(f"{named} has not failed, as it should")
            if len(own := self.own(run)) != 1:
                wrong.append(f"{named} has {len(own)} incidents instead of one")
            if run.run_id in self.failed and run.run_id not in self.recovered:
                wrong.append(f"{named} was cleared and has not recovered")
            elif own and not self._is_closed(run):
                wrong.append(f"{named} has recovered, and its incident is not closed")
        claimed = {incident["reference"] for run in self.runs for incident in self.own(run)}
        strays = [each["reference"] for each in self.incidents if each["reference"] not in claimed]
        if strays:
            wrong.append(f"no failed run explains {', '.join(strays)}")
        if self.too_early:
            wrong.append(f"closed before anything recovered: {', '.join(self.too_early)}")
        wrong += [
            f"the {each.name} ended by itself (exit {each.code}): {each.reason}"
            for each in self.endings
            if not each.is_airflows
        ]
        wrong += [
            f"the neighbour's {run_id} is {state}" for run_id, state in self.neighbour.items() if state != "success"
        ]
        if self.silence > SILENCE:
            wrong.append(f"the neighbour's trigger was silent for {self.silence:.0f} s while nothing was away")
        return wrong + [each.told() for each in self.leftovers]


def shown(name: str) -> str:
    """Show an ID, a long one by its length."""
    return IDS[name] if len(IDS[name]) <= WIDTH else f"{len(IDS[name])} of {IDS[name][0]}"


def padded(name: str) -> str:
    """Fill an ID's column of the table; some letters take two places."""
    places = sum(2 if unicodedata.east_asian_width(letter) == "W" else 1 for letter in shown(name))
    return shown(name) + " " * (WIDTH + 2 - places)
