"""Measure parse cost and the first two notifications of a process, ours beside the peers'."""

import argparse
import json
import ssl
import sys
import tempfile
from pathlib import Path

import certifi
import trustme

from benchmarks.contestants import (
    FLOOR,
    OURS,
    OURS_NAMED,
    PARSED_ONLY,
    RAW,
    Contestant,
    floor,
    ours,
    ours_named,
    peers,
    raw,
)
from benchmarks.environment import python_with_peers
from benchmarks.rounds import Heat, Results, Track
from benchmarks.server import Server
from benchmarks.tables import Limit, ratios, spread, table

BARE = "bare process, HTTP"
BARE_TLS = "bare process, HTTPS"
TASK = "task's process, HTTP"
TASK_TLS = "task's process, HTTPS"
PARSE = "parsing alone"
TASK_MODULES = ("airflow.sdk.execution_time.supervisor", "airflow.sdk.execution_time.task_runner")
"""What a task's callback finds imported: its process is forked from the supervisor, and runs the task runner."""

PARSE_MS = Limit("parsing a DAG file with open_incident()", " ms", 30)
PARSE_MODULES = Limit("modules that parsing adds", "", 15)
FIRST_RATIO = Limit("first notification", " times raw httpx", 1.3)


def main() -> int:
    """Measure, print, and return 1 if something could not be measured."""
    options = _options()
    python = python_with_peers()
    with tempfile.TemporaryDirectory(prefix="airflow-incident-benchmark-") as folder:
        home = Path(folder)
        tls, ca_bundle = _tls(home)
        with Server(tls) as server:
            heats = _heats(server, with_peers=python is not None)
            track = Track(python or Path(sys.executable), home, server, ca_bundle)
            results = track.run(heats, options.rounds)
    print(_report(heats, results))
    if python is None:
        results.troubles["peers"] = "missing: their environment could not be set up, see above"
    for name, trouble in results.troubles.items():
        print(f"NOT MEASURED    {name}: {trouble}")
    if options.json:
        options.json.write_text(json.dumps({"figures": results.figures, "troubles": results.troubles}, indent=1))
    return 1 if results.troubles else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="processes per figure (default: 9)")
    parser.add_argument("--quick", dest="rounds", action="store_const", const=3, help="only 3 rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every single figure")
    return parser.parse_args()


def _tls(folder: Path) -> tuple[ssl.SSLContext, str]:
    """Make a server's certificate, and a trust store as large as the usual one that holds its authority."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle = folder / "ca.pem"
    bundle.write_bytes(Path(certifi.where()).read_bytes() + authority.cert_pem.bytes())
    return context, str(bundle)


def _heats(server: Server, *, with_peers: bool) -> list[Heat]:
    doors = (raw, floor, ours, ours_named)
    plain = [door(server.http) for door in doors]
    secure = [door(server.https) for door in doors]
    others = peers(server.http, server.smtp_port) if with_peers else []
    return [
        Heat(BARE, [*plain, *others]),
        Heat(BARE_TLS, secure),
        Heat(TASK, plain, TASK_MODULES),
        Heat(TASK_TLS, secure, TASK_MODULES),
        Heat(PARSE, list(PARSED_ONLY)),
    ]


def _report(heats: list[Heat], results: Results) -> str:
    verdicts = [
        PARSE_MS.verdict(results.of(BARE, OURS, "parse_ms")),
        PARSE_MODULES.verdict(results.of(BARE, OURS, "modules")),
    ]
    parts = [_parse_table([heats[0], heats[-1]], results)]
    for heat in heats[:-1]:
        parts.append(_notification_table(heat, results))
        base = results.of(heat.title, RAW, "notify_ms")
        limit = Limit(f"{FIRST_RATIO.what}, {heat.title}", FIRST_RATIO.unit, FIRST_RATIO.most)
        verdicts.append(limit.verdict(ratios(results.of(heat.title, OURS, "notify_ms"), base)))
    return "\n\n".join(["", *parts, "\n".join(verdicts)])


def _parse_table(heats: list[Heat], results: Results) -> str:
    def row(heat: Heat, contestant: Contestant) -> list[str]:
        found = (results.of(heat.title, contestant.name, figure) for figure in ("parse_ms", "modules"))
        milliseconds, modules = found
        return [contestant.name, spread(milliseconds, 1), spread(modules)]

    rows = [row(heat, c) for heat in heats for c in heat.contestants if c.name not in {RAW, FLOOR, OURS_NAMED}]
    base = spread(results.of(BARE, RAW, "base_ms"))
    title = f"What a DAG file pays at each parse, after `from airflow.sdk import DAG; DAG(...)`, itself {base} ms"
    return table(title, ["", "ms: median (min..max)", "modules added"], rows)


def _notification_table(heat: Heat, results: Results) -> str:
    base = results.of(heat.title, RAW, "notify_ms")

    def row(contestant: Contestant) -> list[str]:
        milliseconds = results.of(heat.title, contestant.name, "notify_ms")
        parsing = results.of(heat.title, contestant.name, "parse_ms")
        both = [sum(pair) for pair in zip(parsing, milliseconds, strict=False)]
        warm = results.of(heat.title, contestant.name, "warm_ms")
        cold = [spread(milliseconds, 1), spread(ratios(milliseconds, base), 2), spread(both, 1)]
        return [contestant.name, *cold, spread(warm, 1)]

    title = f"The first notification of a process, and its second: {heat.title}"
    head = ["", "ms: median (min..max)", "times raw", "with parsing, ms", "the second, ms"]
    return table(title, head, [row(c) for c in heat.contestants])


if __name__ == "__main__":
    sys.exit(main())
