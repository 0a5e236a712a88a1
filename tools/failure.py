"""What failed in Airflow, and whether incident.io was told of it once and rightly."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

# Between what Airflow's log and what the incident tells: that is cut to the second.
CLOCK = timedelta(seconds=2)


@dataclass(frozen=True)
class Failure:
    """A failed run, as Airflow tells it; `back` is when incident.io was back, if it was away."""

    dag_id: str
    run_id: str
    moment: datetime
    tasks: list[str]
    back: datetime | None = None

    def own(self, incidents: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Pick the incidents that speak of this run."""
        return [incident for incident in incidents if self.run_id in json.dumps(incident)]

    def seconds_until(self, incident: dict[str, Any]) -> float:
        """Count from the failure, or from when incident.io was back, to the incident."""
        return (datetime.fromisoformat(incident["created_at"]) - (self.back or self.moment)).total_seconds()

    def is_told_by(self, incident: dict[str, Any]) -> bool:
        """Return whether the incident names the time of this failure, though it may have been opened much later."""
        told = told_moment(incident)
        return told is not None and self.moment - CLOCK <= told and (self.back is None or told < self.back)


class BrokenFile(Failure):
    """A DAG file that could not be imported: its name stands for the DAG and for the run."""

    def is_told_by(self, incident: dict[str, Any]) -> bool:
        """Return whether it is closed by now, for the file was mended."""
        return incident["status"] == "closed"


def told_moment(incident: dict[str, Any]) -> datetime | None:
    """Read from the incident's text when the run failed."""
    told = re.search(r"Failed at:\W*(\S+ \S+) UTC", str(incident["summary"]))
    return datetime.fromisoformat(told[1]).replace(tzinfo=UTC) if told else None


def mismatches(failures: list[Failure], incidents: list[dict[str, Any]]) -> list[str]:
    """Tell which failure has not exactly one incident, and which incident tells what did not happen."""
    wrong = []
    claimed = set()
    for failure in failures:
        own = failure.own(incidents)
        claimed |= {incident["reference"] for incident in own}
        if len(own) != 1:
            wrong.append(f"{failure.dag_id}, run {failure.run_id}, has {len(own)} incidents instead of one")
        wrong += [f"{each['reference']} tells another time" for each in own if not failure.is_told_by(each)]
    strays = [incident["reference"] for incident in incidents if incident["reference"] not in claimed]
    if strays:
        wrong.append(f"no failed run explains {', '.join(strays)}")
    return wrong
