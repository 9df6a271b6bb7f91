"""A model folder of nnU-Net: its own predictor and `resvox predict FOLDER`, with the same weights and scan, in one run.

    make .venv-nnunet/installed                                     # nnU-Net, in an environment of its own
    python benchmarks/predict_vs_nnunet.py --tiny                   # everything once with tiny networks: a minute
    python benchmarks/predict_vs_nnunet.py                          # all rows: an hour on two cores
    python benchmarks/predict_vs_nnunet.py --rows 'ct-25/*'         # some of them, CASE/PATH as in a shell
    python benchmarks/predict_vs_nnunet.py --rows 'ct-3/resvox' --again
    python benchmarks/predict_vs_nnunet.py --with speed=balanced precision=int8    # rows with further options
    python benchmarks/predict_vs_nnunet.py --rows '*-trained/*' --device cuda      # these train a network first

A row is one path on one case, in a process of its own; it is appended to WORK/rows.jsonl, and rows that are there are
not run again, so an interrupted run goes on. The page predict_vs_nnunet.md beside this file is written after each row
(with ``--tiny`` the page is printed). The page holds only the rows of WORK; with another WORK, run all rows. The
networks (ResidualEncoderUNet, 6 stages, 32 to 320 features, windows of 96 cubed) have random weights, written by
nnU-Net's own trainer; those of the cases named "trained" are trained for some hundred steps on the scan itself.
Mirroring is off. The CT is the chest CT that slicerio ships, on a finer grid; the MR is drawn.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import fields, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from prediction.agreement import agreement
from prediction.case import drawn_labels, write_ct
from prediction.measure import cpu_seconds, has_bfloat16, memory_gb, peak_gb, processor
from prediction.nnunet_case import CASES, STAGES, Case

HERE = Path(__file__).resolve()
PEER = HERE.parent / "prediction" / "nnunet_peer.py"
NNUNET = "nnunet"
OURS = "resvox"
MULTIPLE = 2 ** (STAGES - 1)  # voxels by which the network divides a patch
FLOAT32 = "resvox:precision=float32"
BRAIN = 0.8  # of the radius of the head
NUMBERS = {"overlap": float, "memory_gb": float}
# Logits in float16 and the copy of them that the largest is taken of; a channel in float64, the index of the class.
BYTES_PER_LOGIT, BYTES_PER_VOXEL = 4, 24
Row = dict[str, Any]


def main() -> None:
    options = arguments()
    if options.child:
        print(json.dumps(predict(options.case, options.child, options.work)))
        return
    os.makedirs(options.work, exist_ok=True)
    rows = read_rows(options.work)
    for case in {case.name: case for case, _ in chosen(options)}.values():
        if (options.steps or options.side) and (not case.steps or case.finished(options.work).exists()):
            print(f"{case.name}: --steps and --side change nothing, because nothing is trained", file=sys.stderr)
    for case, path in chosen(options):
        if any((row["case"], row["path"]) == (case.name, path) for row in rows) and not options.again:
            continue
        prepare(options, case)
        rows = [row for row in rows if (row["case"], row["path"]) != (case.name, path)]
        rows.append({"case": case.name, "path": path, **run(options, case, path), **about(options, case)})
        with open(options.work / "rows.jsonl", "a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(json.dumps(rows[-1]), flush=True)
        write_page(options, rows)
    print(write_page(options, rows))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=["*"], help="patterns of CASE/PATH, such as 'ct-25/*'")
    parser.add_argument("--with", dest="extra", nargs="+", default=[], help="further rows, such as speed=balanced")
    parser.add_argument("--again", action="store_true", help="run rows that are there, too")
    parser.add_argument("--tiny", action="store_true", help="small networks and scans; the page is printed only")
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    parser.add_argument("--device", default="cpu", help="of the training")
    parser.add_argument("--steps", type=int, help="of the training of a case named trained")
    parser.add_argument("--side", type=int, help="voxels of a patch in that training")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of both sides")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "resvox-benchmark-nnunet")
    parser.add_argument("--python", type=Path, default=HERE.parents[1] / ".venv-nnunet/bin/python", help="with nnU-Net")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--case", type=case_of, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.list:
        print(*(f"{case.name}/{path}" for case, path in chosen(options)), sep="\n")
        raise SystemExit
    if options.side and options.side % MULTIPLE:
        parser.error(f"--side {options.side}: expected a multiple of {MULTIPLE}")
    if not options.child and not options.python.exists():
        parser.error(f"{options.python} is not there: make .venv-nnunet/installed, or --python PATH")
    return options


def case_of(name: str) -> Case:
    found = next(case for case in CASES if case.name == name.removesuffix("-tiny"))
    return replace(found, name=name, tiny=name.endswith("-tiny"))


def chosen(options: argparse.Namespace) -> Iterator[tuple[Case, str]]:
    """The rows in order: of each case nnU-Net first, so that ours can be compared with it."""
    paths = [NNUNET, FLOAT32, *(["resvox:precision=bfloat16"] if has_bfloat16() else []), OURS]
    paths += [f"{OURS}:{each}" for each in options.extra]
    for case in CASES:
        for path in paths:
            if any(fnmatch(f"{case.name}/{path}", pattern) for pattern in options.rows):
                yield (case_of(f"{case.name}-tiny") if options.tiny else case), path


# ---------------------------------------------------------------------------------------------- the runs


def prepare(options: argparse.Namespace, case: Case) -> None:
    """The scan, and the model folder."""
    scan = case.scan_path(options.work)
    if not scan.exists():
        (write_ct if case.scan == "ct" else write_mr)(scan, case.shape, case.spacing_mm)
    if case.steps and not case.labels_path(options.work).exists():
        write_labels(case, options.work)
    if not case.finished(options.work).exists():
        words = [options.work, case.name, options.device, options.steps or "", options.side or ""]
        in_process(options, [options.python, "-W", "ignore", PEER, "make", *words])


def quantize(options: argparse.Namespace, case: Case) -> str:
    """Write the model as one file, and its int8 network, calibrated on the scan; why not, if it cannot be."""
    model = case.converted(options.work)
    if model.with_suffix(".int8.json").exists():
        return ""
    convert = ["convert", case.model_folder(options.work), "-o", model, "--overwrite"]
    export = [
        "export",
        model,
        "--format",
        "openvino",
        "--precision",
        "int8",
        "--calibrate",
        case.scan_path(options.work),
    ]
    for words in (convert, export):
        command = [sys.executable, "-m", "resvox", *map(str, words)]
        done = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, env=environment(options))
        if done.returncode:
            return done.stderr.strip().splitlines()[-1]
    return ""


def write_labels(case: Case, work: Path) -> None:
    """Lungs and bones of the CT, or the brain and the ventricles of the drawn MR, on the grid of the scan."""
    from resvox.volumes import read_volume, resample, write_label_map

    scan, path = read_volume(case.scan_path(work)), case.labels_path(work)
    if case.scan == "ct":
        write_label_map(resample(drawn_labels(), scan.grid, interpolation="nearest"), path)
        return
    radius, is_ventricle = head(case.shape)
    labels = np.where(is_ventricle, 2, radius < BRAIN).astype(np.uint8)
    write_label_map(scan.with_array(labels), path)


def head(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The radius of the drawn head, 1 at its surface, and where its ventricles are; (z, y, x)."""
    axes = [np.linspace(-1, 1, size, dtype=np.float32) for size in shape]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    radius = np.sqrt((z / 0.9) ** 2 + (y / 0.85) ** 2 + (x / 0.7) ** 2)
    return radius, (z / 0.3) ** 2 + (y / 0.25) ** 2 + (x / 0.12) ** 2 < 1


def write_mr(path: Path, shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> None:
    """A head with a skull, ventricles and texture, as a scanner without distortions would see it."""
    from scipy.ndimage import gaussian_filter

    from resvox.volumes import Volume, write_volume

    radius, is_ventricle = head(shape)
    texture = gaussian_filter(np.random.default_rng(0).standard_normal(shape).astype(np.float32), 3)
    image = np.where(radius < BRAIN, 500 + 900 * texture, np.where(radius < 0.88, 60, np.where(radius < 1, 700, 0)))
    image[is_ventricle] = 150
    image += np.random.default_rng(1).normal(0, 12, shape)
    write_volume(Volume(np.clip(image, 0, None).astype(np.int16), spacing_mm=spacing_mm), path)


def run(options: argparse.Namespace, case: Case, path: str) -> Row:
    """A row of figures; ``{"not_run": reason}`` if nnU-Net would not fit into the memory, or int8 changes too much."""
    if path == NNUNET:
        needed, free = nnunet_gb(case), available_gb()
        if needed > free:
            return {"not_run": f"its export needs about {needed:.0f} GB, {free:.0f} GB were free"}
        out = result(options.work, case, path).parent
        return in_process(options, [options.python, "-W", "ignore", PEER, "predict", options.work, case.name, out])
    command = [sys.executable, HERE, "--child", path, "--case", case.name, "--work", options.work]
    refused = quantize(options, case) if "precision=int8" in path else ""
    if refused:
        return {"not_run": refused}
    if "speed=" in path:  # a batch of one scan takes the verdict of the run before, which measures
        in_process(options, command)
    return in_process(options, command)


def nnunet_gb(case: Case) -> float:
    """What nnU-Net's export holds at once, without the logits on the network's grid."""
    return case.voxels * (case.classes * BYTES_PER_LOGIT + BYTES_PER_VOXEL) / 1e9


def available_gb() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) * 1024 / 1e9


def in_process(options: argparse.Namespace, command: list[object]) -> Row:
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(options))
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stderr[-4000:]}")
    found: Row = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def environment(options: argparse.Namespace) -> dict[str, str]:
    """That of a row's process: its threads, and a cache of compiled networks of its own."""
    own = {"OMP_NUM_THREADS": str(options.threads), "RESVOX_CACHE": str(options.work / "cache")}
    return {**os.environ, **own, "PYTHONPATH": str(HERE.parents[1] / "src")}


def predict(case: Case, path: str, work: Path) -> Row:
    """`resvox predict`, with reading the folder and choosing the engine; peak memory is this process's."""
    import time

    import torch  # noqa: F401 - in both processes the memory before the run holds it

    from resvox.prediction.options import PredictOptions
    from resvox.workflow import predict

    words = [pair.split("=", 1) for pair in path.partition(":")[2].split(",") if pair]
    chosen: dict[str, Any] = {name: NUMBERS.get(name, str)(value) for name, value in words}
    unknown = set(chosen) - {field.name for field in fields(PredictOptions)}
    if unknown:
        raise SystemExit(f"--with {sorted(unknown)[0]}=...: no option of PredictOptions")
    own, cpu, start = memory_gb(), cpu_seconds(), time.perf_counter()
    done = predict(
        case.converted(work) if chosen.get("precision") == "int8" else case.model_folder(work),
        case.scan_path(work),
        result(work, case, path).parent,
        mirror=False,
        overwrite=True,
        **chosen,
    )
    total, used, peak = time.perf_counter() - start, cpu_seconds() - cpu, peak_gb()
    assert done.ok, [each.reason for each in done.cases]
    windows = done.cases[0].windows
    return {
        "seconds": done.seconds, "total": total, "cpu": used, "own_gb": own, "peak_gb": peak, "windows": windows,
        "engine": f"{done.engine}; {done.speed}" if done.speed else done.engine,
    }  # fmt: skip


def result(work: Path, case: Case, path: str) -> Path:
    return work / "results" / case.name / path.replace(":", "-").replace("=", "-") / "case.nii.gz"


# ---------------------------------------------------------------------------------------------- the page


def about(options: argparse.Namespace, case: Case) -> Row:
    return {
        "trained": case.finished(options.work).read_text().strip() if case.steps else "",
        "date": str(datetime.date.today()), "processor": processor(), "threads": options.threads,
        "python": platform.python_version(), "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def read_rows(work: Path) -> list[Row]:
    """The rows so far; of a row that was run again the last."""
    path = work / "rows.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return list({(row["case"], row["path"]): row for row in map(json.loads, lines)}.values())


def write_page(options: argparse.Namespace, rows: list[Row]) -> str:
    wanted = [row for row in rows if row["case"].endswith("-tiny") == options.tiny]
    parts = [HEAD]
    for case in CASES:
        name = f"{case.name}-tiny" if options.tiny else case.name
        own = [row for row in wanted if row["case"] == name]
        if own:
            parts.append(table(options.work, case_of(name), own))
    text = "\n".join(parts)
    if wanted and not options.tiny:
        HERE.with_suffix(".md").write_text(text)
    return text


def table(work: Path, case: Case, rows: list[Row]) -> str:
    """A case's table: stages, ratios to nnU-Net, memory, and how many voxels have nnU-Net's label."""
    by_path = {row["path"]: row for row in rows}
    base = by_path.get(NNUNET, {})
    reference = next((each for each in (NNUNET, FLOAT32) if "total" in by_path.get(each, {})), None)
    labels = read(result(work, case, reference)) if reference else None
    size = "x".join(str(size) for size in reversed(case.shape))
    windows = next((row["windows"] for row in rows if "windows" in row), "?")
    mm = " x ".join(f"{mm:g}" for mm in reversed(case.spacing_mm))
    plan = case.plan_mm * (case.spacing_mm[0] if case.tiny else 1)
    lines = [
        f"## {case.name}: {case.scan.upper()} of {size} voxels ({mm} mm), {case.classes} classes",
        "",
        f"The plan's spacing is {plan:g} mm: {windows} windows of the network. {described(rows)}",
        "",
        "| path | engine | load, choice of engine | read, preprocess | network | export | total s | nnU-Net / this "
        "| CPU s | nnU-Net / this | peak GB (above imports) | part of nnU-Net's | equal labels (least Dice) |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        if "not_run" in row:
            lines.append(f"| {row['path']} | not run: {row['not_run']} |" + " - |" * 11)
            continue
        lines.append(line(row, base, equal(work, case, row, labels, reference)))
    return "\n".join([*lines, ""])


def line(row: Row, base: Row, same: str) -> str:
    seconds = row["seconds"]
    first = sum(seconds.get(name, 0.0) for name in ("read, preprocess", "read", "preprocess"))
    last = sum(seconds.get(name, 0.0) for name in ("export", "restore", "write"))
    load = row["total"] - first - last - seconds["network"]
    above = row["peak_gb"] - row["own_gb"]
    ratios = [f"{base[key] / row[key]:.1f}" if "total" in base else "-" for key in ("total", "cpu")]
    part = f"{above / (base['peak_gb'] - base['own_gb']):.2f}" if "total" in base else "-"
    return (
        f"| {row['path']} | {row['engine']} | {load:.1f} | {first:.1f} | {seconds['network']:.1f} | {last:.1f} "
        f"| {row['total']:.1f} | **{ratios[0]}** | {row['cpu']:.0f} | {ratios[1]} | {row['peak_gb']:.2f} ({above:.2f}) "
        f"| {part} | {same} |"
    )


def equal(work: Path, case: Case, row: Row, labels: np.ndarray | None, reference: str | None) -> str:
    if labels is None or row["path"] == reference:
        return "-"
    share, dice = agreement(read(result(work, case, row["path"])), labels)
    return f"{100 * share:.3f} % ({dice:.4f})" + ("" if reference == NNUNET else " (of float32)")


def read(path: Path) -> np.ndarray:
    from resvox.volumes import read_label_map

    return read_label_map(path).array


def described(rows: list[Row]) -> str:
    """When and where a case's rows were taken; several, where these differ."""
    keys = ("date", "processor", "threads", "python")
    where = list(dict.fromkeys(tuple(row[key] for key in keys) for row in rows))
    loads = [row["load"] for row in rows]
    found = "; ".join(f"{date}, {name}, {threads} threads, Python {python}" for date, name, threads, python in where)
    trained = ", ".join(dict.fromkeys(row["trained"] for row in rows if row.get("trained")))
    return f"{found}; load average {min(loads)} to {max(loads)}.{f' Trained: {trained}.' if trained else ''}"


HEAD = """\
# A model of nnU-Net: its own predictor and resvox

The same model folder (ResidualEncoderUNet of 6 stages, 32 to 320 features, windows of 96 cubed, random weights, written
by nnU-Net's own trainer) and the same scan, mirroring off. nnU-Net: `nnUNetPredictor` with its own export, in one
process. Ours: `resvox predict FOLDER`; reading the folder and choosing the engine are included. Written by
`python benchmarks/predict_vs_nnunet.py`. CPU s are the seconds of the process over all cores. The logits of random
weights are closer to each other than those of a trained network, so more labels differ than with a trained one.
The cases named "trained" have weights that were trained for some hundred steps on the scan itself, with labels of lungs
and bones, or of the drawn brain and ventricles.
"""

if __name__ == "__main__":
    main()
