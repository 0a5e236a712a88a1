"""Making an environment says how far it is, and what went wrong."""

import sys

import pytest

from tools import install
from tools.watch import Trouble, Watch

PIP = """
import time
print("Looking in indexes", flush=True)
for number in range(60):
    print(f"Collecting package-{number}", flush=True)
time.sleep(1)
print("Installing collected packages: all of them", flush=True)
time.sleep(1)
"""


def test_it_shows_how_many_packages_are_found_and_when_they_are_unpacked(tmp_path, capsys):
    install.run(Watch(), tmp_path, "installing packages", sys.executable, "-c", PIP)
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "installing packages: 50 found",
        "installing packages: unpacking",
    ]


def test_what_fails_shows_what_pip_said(tmp_path):
    with pytest.raises(Trouble, match=r"updating pip failed \(exit 3\)(.|\n)*there is no such package"):
        install.run(
            Watch(), tmp_path, "updating pip", sys.executable, "-c", "print('there is no such package'); exit(3)"
        )


def test_an_interrupted_one_leaves_nothing_running(tmp_path, monkeypatch):
    def until(_watch, look, **_limits):
        assert look()[1] is None
        raise KeyboardInterrupt

    monkeypatch.setattr(Watch, "until", until)
    with pytest.raises(KeyboardInterrupt):
        install.run(Watch(), tmp_path, "waiting", sys.executable, "-c", "import time; time.sleep(99); print('ended')")
    assert "ended" not in (tmp_path / "install.log").read_text()
