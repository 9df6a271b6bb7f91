"""The commands of the page on TotalSegmentator run, with toy weights where it keeps its own."""

import re
import shlex
from pathlib import Path

import pytest
from nnunet.total_toys import write_scan, write_weights
from typer.testing import CliRunner

from resvox.cli.app import app
from resvox.prediction.totalsegmentator.table import task_names
from resvox.volumes import read_label_map, read_volume

PAGE = Path(__file__).resolve().parents[2] / "docs" / "total.md"
COMMANDS = re.findall(r"^\$ resvox (predict .*)$", PAGE.read_text(), re.MULTILINE)
RUNS = (("total", "default"), ("total", "fast"), ("total", "fastest"), ("liver_vessels", "default"), ("body", "fast"))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    results = folder / ".totalsegmentator" / "nnunet" / "results"
    results.mkdir(parents=True)
    for task, run in RUNS:
        write_weights(results, task, run=run)
    (folder / "scans").mkdir()
    write_scan(folder / "scans" / "one.nii.gz")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page(home, monkeypatch, command):
    for name in ("TOTALSEG_WEIGHTS_PATH", "TOTALSEG_HOME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    words = shlex.split(command)
    done = CliRunner().invoke(app, [*words, "--engine", "torch-plain"])
    assert done.exit_code == 0, done.output
    out = home / words[words.index("-o") + 1]
    (made,) = [each for each in out.iterdir() if each.name.startswith("one.") and each.suffix != ".json"]
    assert read_label_map(made).grid.matches(read_volume(home / "scans" / "one.nii.gz").grid)


def test_the_page_names_every_task():
    text = PAGE.read_text()
    assert [name for name in task_names() if f"`{name}`" not in text] == []
    assert len(COMMANDS) >= 5
