"""The command `airflow-incident`: finds the subcommand and lets it run. Imports nothing heavy by itself."""

import argparse
import os
import sys
from collections.abc import Sequence

from airflow_incident import __version__
from airflow_incident.cli import completion, doctor, explain, journal, routes, send_test, watch
from airflow_incident.sandbox import command as sandbox

COMMANDS = (doctor, send_test, explain, routes, journal, watch, sandbox, completion)
"""A module for each command; its `add` declares it."""


def build_parser() -> argparse.ArgumentParser:
    """Return the command line with all subcommands."""
    parser = argparse.ArgumentParser(
        prog="airflow-incident", description="Tools around incident.io and Airflow.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = build_parser()
    if completion.ASKED in os.environ:
        completion.complete(parser)
    args = parser.parse_args(argv)
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())
