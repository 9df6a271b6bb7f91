"""The scripts in benchmarks/: what they write, without a measurement."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(code, *folders):
    """Run a program that finds the scripts as they find each other."""
    paths = [str(ROOT / "benchmarks" / folder) for folder in (".", *folders)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, str(ROOT / "src")])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_folder_without_rows_leaves_the_page_about_nnunet_as_it_is(tmp_path):
    run(
        "import argparse, pathlib, predict_vs_nnunet as script\n"
        f"script.HERE = pathlib.Path({str(tmp_path / 'script.py')!r})\n"
        "script.write_page(argparse.Namespace(tiny=False, work=None), [])\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_the_p_values_of_the_page_about_learning_have_holms_correction():
    dice = {name: {f"case{at}": {"whole": 0.5 + 0.01 * at + gain} for at in range(6)} for name, gain in
            (("ours", 0.1), ("first", 0.0), ("second", 0.05))}  # fmt: skip
    rows = run(f"import scoring\nprint(*scoring._paired({dice!r}, ['whole'], 'ours'), sep=chr(10))", "learning")
    assert "| p (Holm) |" in rows
    # of 6 pairs that all agree p is 2 / 2^6, of two tests twice that
    assert [line.split("|")[-2].strip() for line in rows.splitlines()[-2:]] == ["0.062", "0.062"]


def test_a_study_with_one_region_and_without_the_defaults_has_a_page_and_a_plot(tmp_path):
    facts = {"steps": 3, "patch_size": [8, 8, 8], "batch_size": 2}
    lines = [
        {"framework": name, "case": f"case{at}", "facts": facts, "scores": {"tumour": {"dice": dice, "hd95_mm": 1.0}}}
        for name, dice in (("resvox, instance", 0.5), ("MONAI", 0.25))
        for at in range(2)
    ]
    page = run(
        f"import pathlib, scoring\nprint(scoring.page({lines!r}, 'Title', 'Words.', 'resvox'))\n"
        f"scoring.plot({lines!r}, pathlib.Path({str(tmp_path / 'plot.png')!r}))",
        "learning",
    )
    assert "resvox, instance less the other" in page
    assert "| MONAI | 2 | +0.250 | 2 / 0 |" in page
    assert (tmp_path / "plot.png").stat().st_size > 1000
