"""Kills and several processes, with real processes: a run is what it is however it was run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import resvox
from resvox.training import fit, read_dataset
from resvox.training.logs import read_metrics

SCRIPT = """
import json, os, sys
from pathlib import Path
from resvox.training import Plan, fit, read_dataset

def on_step(report):
    line = {"step": report.step, "numbers": report.numbers, "cases": report.cases, "loss": report.loss}
    with open(f"{sys.argv[3]}.steps{report.rank}", "a") as file:
        file.write(json.dumps(line) + chr(10))

if __name__ == "__main__":
    options = json.loads(sys.argv[4])
    result = fit(read_dataset(sys.argv[1]), Plan.load(sys.argv[2]), sys.argv[3], on_step=on_step, **options)
    Path(f"{sys.argv[3]}.best{os.environ.get('RANK', '')}").write_text(str(result.best_dice))
"""


@pytest.fixture
def start(folder_of, tiny_plan, tmp_path):
    """Start a training of the tiny plan in a process of its own; ``launcher`` goes before the script."""
    data = folder_of()
    (tmp_path / "train.py").write_text(SCRIPT)

    def begin(run, *, launcher=(), plan=tiny_plan, **options):
        path = plan.save(tmp_path / f"{run}.yaml")
        source = os.path.dirname(os.path.dirname(resvox.__file__))
        environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, *launcher, "train.py", str(data), str(path), run, json.dumps(options)],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    begin.data = data
    return begin


def finished(process):
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


def rows_of(path):
    rows = read_metrics(path)
    return [{k: -1.0 if v is None else v for k, v in row.items() if k != "seconds"} for row in rows]


def same_curves(one, other):
    assert [row["step"] for row in one] == [row["step"] for row in other]
    for row, twin in zip(one, other, strict=True):
        assert row == pytest.approx(twin, rel=1e-4, abs=1e-5)


def test_killed_and_resumed_is_as_if_never_killed(start, tiny_plan, tmp_path):
    plan = tiny_plan.with_changes(steps=60, validation_interval=20, checkpoint_interval=10)
    process = start("killed", plan=plan)
    log = tmp_path / "killed" / "metrics.csv"
    limit = time.monotonic() + 200
    while len(read_metrics(log)) < 25:  # beyond the checkpoints of steps 10 and 20
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < limit
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed/model.safetensors").exists()
    dataset = read_dataset(start.data)
    resumed = fit(dataset, plan, tmp_path / "killed", resume=True, progress=False)
    whole = fit(dataset, plan, tmp_path / "whole", progress=False)
    same_curves(rows_of(log), rows_of(tmp_path / "whole/metrics.csv"))
    assert resumed.best_dice == pytest.approx(whole.best_dice, abs=1e-3)
    assert resumed.model_path.is_file()
    assert not list(tmp_path.glob("killed/**/.*.tmp"))


@pytest.mark.parametrize("how", ["torchrun", "spawned"])
def test_two_processes_see_the_same_samples_and_write_once(start, tiny_plan, tmp_path, how):
    plan = tiny_plan.with_changes(batch_size=4, norm="batch")
    options = {"accelerator": "cpu"} if how == "torchrun" else {"accelerator": "cpu", "devices": 2}
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    finished(start("two", plan=plan, launcher=launcher if how == "torchrun" else (), **options))
    single = []
    fit(read_dataset(start.data), plan, tmp_path / "one", on_step=single.append, progress=False)
    ranks = [[json.loads(line) for line in (tmp_path / f"two.steps{rank}").read_text().splitlines()] for rank in (0, 1)]
    for alone, first, second in zip(single, *ranks, strict=True):
        assert first["numbers"] + second["numbers"] == list(alone.numbers)
        assert first["cases"] + second["cases"] == list(alone.cases)
        assert first["loss"] == second["loss"]  # the mean over processes, told to both
        # Dice and batch norm are those of the whole batch, however it is divided. Later, a value that is 0 up to
        # rounding may be on the other side of a ReLU.
        assert first["loss"] == pytest.approx(alone.loss, rel=1e-5 if alone.step <= 2 else 2e-2)
    rows = rows_of(tmp_path / "two/metrics.csv")
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert [row["loss"] for row in rows] == [line["loss"] for line in ranks[0]]
    files = sorted(str(path.relative_to(tmp_path / "two")) for path in (tmp_path / "two").rglob("*.*"))
    assert [name for name in files if name.endswith((".pt", ".safetensors", ".csv", ".tmp"))] == [
        "checkpoints/best.pt",
        "checkpoints/last.pt",
        "metrics.csv",
        "model.safetensors",
    ]
    assert len(list((tmp_path / "two/tensorboard").iterdir())) == 1
    assert len(list((tmp_path / "two/cache").iterdir())) == 2
    if how == "torchrun":
        assert (tmp_path / "two.best0").read_text() == (tmp_path / "two.best1").read_text()
