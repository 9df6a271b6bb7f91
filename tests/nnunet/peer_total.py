"""What TotalSegmentator itself makes of toy scans with toy weights, and its own tables.

Runs where ``totalsegmentator`` and ``nnunetv2`` are installed (`make test-nnunet`). ``peer_total.py OUT [RUN...]``
reads the weights ``OUT/results`` and the scans ``OUT/scans`` that `total_toys.write_all` wrote, and writes a label map
``OUT/labels/RUN/SCAN`` for each of `total_cases.RUNS`, ``OUT/labels32/RUN/SCAN`` with nnU-Net's two arrays of sums in
float32 instead of float16, and ``OUT/tables.json``. It reaches no network.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import sys
from pathlib import Path

import torch
from peer_runs import declare_operators, float32_sums
from total_cases import RUNS

declare_operators()  # in the processes that nnU-Net starts, too


def refuse_network():
    connect = socket.socket.connect

    def within_this_machine(self, address):
        if self.family != socket.AF_UNIX:
            raise OSError("no network in this test")
        connect(self, address)

    socket.socket.connect = within_this_machine


def tables():
    """The labels, models and codes that TotalSegmentator states."""
    from totalsegmentator.map_tasks_config import TASK_CONFIGS, TASK_ID_WEIGHTS_CONFIGS
    from totalsegmentator.map_to_binary import (
        class_map,
        class_map_5_parts,
        class_map_parts_headneck_muscles,
        class_map_parts_mr,
        commercial_models,
        map_taskid_to_partname_ct,
        map_taskid_to_partname_headneck_muscles,
        map_taskid_to_partname_mr,
    )

    parts = {}
    for maps, names in (
        (class_map_5_parts, map_taskid_to_partname_ct),
        (class_map_parts_mr, map_taskid_to_partname_mr),
        (class_map_parts_headneck_muscles, map_taskid_to_partname_headneck_muscles),
    ):
        parts |= {number: maps[name] for number, name in names.items()}
    folders = {number: each["foldername"] for number, each in TASK_ID_WEIGHTS_CONFIGS.items()}
    return {"labels": class_map, "configs": TASK_CONFIGS, "folders": folders, "parts": parts,
            "licensed": list(commercial_models)}  # fmt: skip


def main(out, names):
    os.environ["TOTALSEG_HOME_DIR"] = str(out / "home")
    os.environ["TOTALSEG_WEIGHTS_PATH"] = str(out / "results")
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ[name] = str(out / "results")
    refuse_network()
    multiprocessing.cpu_count = torch.get_num_threads  # bits of convolutions depend on the number of threads
    (out / "tables.json").write_text(json.dumps(tables()))
    (out / "home").mkdir(exist_ok=True)
    (out / "home" / "config.json").write_text(
        json.dumps({"totalseg_id": "toy", "send_usage_stats": False, "prediction_counter": 0,
                    "statistics_disclaimer_shown": True})
    )  # fmt: skip
    for run in [each for each in RUNS if not names or each.name in names]:
        for scan in run.scans:
            print(run.name, scan)
            predict(run, scan, out, "labels")
            with float32_sums():
                predict(run, scan, out, "labels32")


def predict(run, scan, out, folder):
    from totalsegmentator.python_api import totalsegmentator

    target = out / folder / run.name / f"{scan}.nii.gz"
    target.parent.mkdir(parents=True, exist_ok=True)
    totalsegmentator(
        out / "scans" / f"{scan}.nii.gz", target, ml=True, task=run.task, fast=run.run == "fast",
        fastest=run.run == "fastest", roi_subset=None if run.subset is None else list(run.subset),
        resampling_order=run.order, nr_thr_saving=1, device="cpu", quiet=True,
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
