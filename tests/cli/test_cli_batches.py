"""Predict and evaluate from the command line, on real files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import resvox
from resvox.cli import app

SOURCE = Path(resvox.__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def cli_model(tmp_path_factory):
    """A saved, untrained model for scans of one channel; its labels are the same in every precision."""
    torch.manual_seed(0)
    network = resvox.create_model(
        "unet", encoder_name="resnet10", encoder_depth=1, decoder_filters=(4,), widths=(4, 4, 4, 4), stem_width=4,
        spatial_dims=3, in_channels=1, num_classes=2,
    )  # fmt: skip
    with torch.no_grad():  # far from a tie: where bfloat16 changes a label, a note goes to stderr
        network.head.bias += torch.tensor([-100.0, 100.0])
    metadata = {
        "preprocessing": {
            "orientation": "SPL",
            "spacing_mm": None,
            "crop": "none",
            "normalization": [{"kind": "zscore"}],
        },
        "labels": {"background": 0, "block": 1},
        "channel_names": ["CT"],
        "inference": {"roi_size": [8, 8, 8], "overlap": 0.25, "mirror_axes": []},
    }
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    resvox.save_model(network, path, metadata=metadata)
    return path


@pytest.fixture
def batch(tmp_path):
    """Two good scans and two bad ones in a folder."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b"):
        image = nibabel.Nifti1Image(rng.normal(size=(9, 9, 9)).astype(np.float32), np.eye(4))
        nibabel.save(image, folder / f"{name}.nii.gz")
    (folder / "text.nii.gz").write_text("dear aunt")
    (folder / "cut.nii.gz").write_bytes((folder / "a.nii.gz").read_bytes()[:500])
    return folder


@pytest.fixture
def call(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")  # narrow: lines of a log must not be broken
    monkeypatch.setenv("NO_COLOR", "1")
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_a_batch_with_bad_inputs_does_the_rest_and_exits_1(call, cli_model, batch, tmp_path):
    result = call("predict", cli_model, batch, "-o", tmp_path / "out", "--profile")
    assert result.exit_code == 1
    errors = result.stderr.splitlines()
    assert len(errors) == 2
    assert re.match(r"error: .*in/cut\.nii\.gz: .+", errors[0])
    assert re.match(r"error: .*in/text\.nii\.gz: .+", errors[1])
    assert f"2 written, 2 failed -> {tmp_path / 'out'}" in result.stdout.splitlines()
    assert "network" in result.stdout  # --profile
    again = call("predict", cli_model, batch, "-o", tmp_path / "out")
    assert again.exit_code == 1
    assert "2 already done, 2 failed" in again.stdout


def test_debug_shows_the_traceback_of_each_bad_input(call, cli_model, batch, tmp_path):
    result = call("predict", cli_model, batch, "-o", tmp_path / "out", "--debug")
    assert result.exit_code == 1
    assert result.stderr.count("Traceback") == 2
    assert "Traceback" not in call("predict", cli_model, batch, "-o", tmp_path / "out2").output


def test_a_good_batch_exits_0(call, cli_model, batch, tmp_path):
    result = call("predict", cli_model, batch / "a.nii.gz", batch / "b.nii.gz", "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert result.stderr == ""


def test_an_out_folder_that_cannot_be_is_one_line(call, cli_model, batch, tmp_path):
    (tmp_path / "file").touch()
    result = call("predict", cli_model, batch / "a.nii.gz", "-o", tmp_path / "file" / "out")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [f"error: {tmp_path / 'file' / 'out'}: Not a directory"]


def test_scores_are_shown_and_written(call, cli_model, batch, tmp_path):
    call("predict", cli_model, batch / "a.nii.gz", batch / "b.nii.gz", "-o", tmp_path / "out")
    result = call(
        "evaluate", tmp_path / "out", tmp_path / "out", "--labels", cli_model, "-o", tmp_path / "m.json", "--csv",
        tmp_path / "m.csv",
    )  # fmt: skip
    assert result.exit_code == 0
    assert "block" in result.stdout
    assert list(json.loads((tmp_path / "m.json").read_text())) == ["a", "b"]
    assert (tmp_path / "m.csv").read_text().startswith("case,label,dice")


def test_a_missing_prediction_is_named_and_exits_1(call, cli_model, batch, tmp_path):
    call("predict", cli_model, batch / "a.nii.gz", batch / "b.nii.gz", "-o", tmp_path / "references")
    call("predict", cli_model, batch / "a.nii.gz", "-o", tmp_path / "out")
    result = call("evaluate", tmp_path / "out", tmp_path / "references", "--labels", cli_model)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == ["error: no prediction for b"]


def test_torchrun_processes_share_the_work(cli_model, batch, tmp_path):
    """Two processes as torchrun starts them: its variables set, one command for both."""
    command = [sys.executable, "-m", "resvox", "predict", cli_model, batch / "a.nii.gz", batch / "b.nii.gz"]
    processes = []
    for rank in range(2):
        environment = {
            **os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "NO_COLOR": "1",
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
        }  # fmt: skip
        words = [str(word) for word in (*command, "-o", tmp_path / "out")]
        processes.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment))
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    written = [line for output in outputs for line in output.splitlines() if re.search(r"\.nii\.gz  \d", line)]
    assert len(written) == 2
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 2
