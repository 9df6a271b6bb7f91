"""The commands of docs/nnunet.md, run on a model folder that nnU-Net's own trainer wrote."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from docs.test_docs import ROOT, commands
from typer.testing import CliRunner

from resvox.cli import app
from resvox.volumes import read_label_map

REFERENCE = Path(__file__).parents[1] / "nnunet" / "references" / "thick_slices"
MODEL = Path("nnUNet_results/Dataset002_Heart/nnUNetTrainer__nnUNetPlans__3d_fullres")
COMMANDS = commands(ROOT / "docs" / "nnunet.md")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the page names: a model of two folds, its zip, scans."""
    root = tmp_path_factory.mktemp("nnunet_page")
    (folder,) = (REFERENCE / "models" / "Dataset001_Toy").iterdir()
    shutil.copytree(folder, root / MODEL)
    shutil.copytree(folder / "fold_0", root / MODEL / "fold_1")
    shutil.make_archive(str(root / "heart"), "zip", root / "nnUNet_results", MODEL.parent.name)
    shutil.copytree(REFERENCE / "scans", root / "scans")
    return root


@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=lambda number: " ".join(COMMANDS[number][:2]))
def test_a_command_of_the_page_runs(number, place, monkeypatch):
    words = COMMANDS[number]
    monkeypatch.chdir(place)
    out = Path(words[words.index("-o") + 1])
    shutil.rmtree(out, ignore_errors=True)
    quick = ["--engine", "torch-plain"] if words[0] == "predict" and "--exact" not in words else []
    done = CliRunner().invoke(app, [*words, *quick])
    assert done.exit_code == 0, done.output
    if words[0] == "predict":
        scan = read_label_map(place / "scans" / "case0_0000.nii.gz")
        assert read_label_map(out / "case0.nii.gz").grid.matches(scan.grid)
    else:
        assert out.is_file() or sorted(each.name for each in out.iterdir()) == ["fold_0", "fold_1"]


def test_the_page_has_commands():
    assert [words[0] for words in COMMANDS] == ["predict", "predict", "convert", "convert", "predict"]
