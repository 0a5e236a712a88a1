"""Making an environment says how far it is, and what went wrong."""

import sys

import pytest

from tools import install
from tools.watch import Trouble, Watch

PIP = """
import pathlib, time
print("Looking in indexes", flush=True)
for number in range(60):
    print(f"Collecting package-{number}", flush=True)
time.sleep(1)
print("Installing collected packages:", ", ".join(f"package-{number}" for number in range(60)), flush=True)
for number in range(60):
    pathlib.Path("lib/python3/site-packages", f"package_{number}-1.dist-info").mkdir(parents=True)
    time.sleep(0.03)
"""


def test_it_shows_how_many_packages_are_found_and_then_how_many_are_unpacked(tmp_path, capsys, monkeypatch):
    """Never silent for long, though most of the time goes by without a word of pip's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lib/python3/site-packages/of_before-1.dist-info").mkdir(parents=True)
    install.run(Watch(), tmp_path, "installing packages", sys.executable, "-c", PIP)
    assert capsys.readouterr().out.splitlines()[-4:] == [
        "installing packages: 50 found",
        "installing packages: 0 of 60 unpacked",
        "installing packages: 25 of 60 unpacked",
        "installing packages: 50 of 60 unpacked",
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
