"""From a CT to its label map: MONAI's own path and ours, the same network and weights, in one run.

    python benchmarks/predict_vs_peers.py            # 512x512x300, minutes
    python benchmarks/predict_vs_peers.py --small    # a fourth of it along each axis
    python benchmarks/predict_vs_peers.py --folder   # 200 small scans instead of a large one

prints Markdown, and writes it with --out FILE. The scan is the chest CT that slicerio ships, resampled to the size
asked for; the network is a U-Net on resnet18 trained on it for two minutes (lungs and bones), so that label maps can be
compared. Each path runs in a process of its own, turn by turn; peak memory is the process's.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

SPACING_MM = (1.0, 0.63, 0.63)
GRID_MM = 1.5
ROI = 96
WINDOW = (-1000.0, 1000.0)
LABELS = ("background", "lungs", "bones")
PATHS = ("monai", "monai-amp", "resvox-plain", "resvox-float32", "resvox")
SAID = {
    "monai": "MONAI, float32",
    "monai-amp": "MONAI, bfloat16 autocast",
    "resvox-plain": "resvox, plain torch, float32",
    "resvox-float32": "resvox, engine auto, float32",
    "resvox": "resvox, engine auto",
}


def main() -> None:
    options = arguments()
    if options.child:
        print(json.dumps(CHILDREN[options.child.split("-")[0]](options)))
        return
    options.work.mkdir(parents=True, exist_ok=True)
    prepare(options)
    rows = []
    for turn in range(options.repeats):
        for path in options.paths:
            row = in_process(options, path)
            rows.append({"path": path, "turn": turn, **row})
            print(json.dumps(rows[-1]), flush=True)
    text = report(options, rows)
    print(text)
    if options.out:
        options.out.write_text(text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="128x128x75 voxels, windows of 32")
    parser.add_argument("--folder", type=int, nargs="?", const=200, default=0, help="so many small scans")
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--steps", type=int, default=120, help="of training")
    parser.add_argument("--paths", nargs="+", choices=PATHS, default=list(PATHS), help="one may be named twice")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "resvox-benchmark")
    parser.add_argument("--out", type=pathlib.Path, help="write the Markdown here")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def roi(options: argparse.Namespace) -> int:
    return 64 if options.folder else 32 if options.small else ROI


def scans(options: argparse.Namespace) -> list[pathlib.Path]:
    if options.folder:
        return [options.work / "folder" / f"ct{number:03d}.nii.gz" for number in range(options.folder)]
    return [options.work / ("small.nii.gz" if options.small else "ct.nii.gz")]


def model_path(options: argparse.Namespace) -> pathlib.Path:
    return options.work / f"model{options.classes}-{roi(options)}.safetensors"


def result(options: argparse.Namespace, path: str) -> pathlib.Path:
    return options.work / "results" / f"{path}-{options.classes}-{scans(options)[0].parent.name}"


# --- the scan and the weights ---------------------------------------------------------------------------------------


def prepare(options: argparse.Namespace) -> None:
    import slicerio

    from resvox.volumes import Grid, Volume, read_volume, resample, write_volume

    source = read_volume(slicerio.get_testdata_file("CTChest4.nrrd"))
    middle = source.grid.world_mm((np.array(source.grid.shape) - 1) / 2)
    for number, path in enumerate(scans(options)):
        if path.exists():
            continue
        shape = np.array((40, 64, 64) if options.folder else (75, 128, 128) if options.small else (300, 512, 512))
        spacing = np.array((2.4, 1.5, 1.5) if options.folder else SPACING_MM) * (4 if options.small else 1)
        direction = source.grid.direction
        shift = np.random.default_rng(number).uniform(-40, 40, 3) if options.folder else 0
        origin = middle + shift - direction @ ((shape - 1) / 2 * spacing)
        grid = Grid(tuple(shape), spacing_mm=tuple(spacing), origin_mm=tuple(origin), direction=direction)
        sampled = resample(source, grid, fill=None).array
        noise = np.random.default_rng(number).normal(0, 12, sampled.shape).astype(np.float32)
        write_volume(Volume.on_grid(np.rint(sampled + noise).astype(np.int16), grid), path)
    trained = options.work / f"model3-{ROI}.safetensors"
    if not trained.exists():
        train(trained, options.steps)
    if not model_path(options).exists():
        widen(trained, model_path(options), options)


def metadata(options: argparse.Namespace) -> dict[str, object]:
    names = [*LABELS, *(f"part {number}" for number in range(3, options.classes))]
    grid_mm = GRID_MM * (4 if options.small else 1)
    return {
        "preprocessing": {
            "orientation": "SPL",
            "spacing_mm": [grid_mm] * 3,
            "crop": "none",
            "normalization": [{"kind": "window", "low": WINDOW[0], "high": WINDOW[1]}],
        },
        "labels": {name: value for value, name in enumerate(names)},
        "channel_names": ["CT"],
        "inference": {"roi_size": [roi(options)] * 3, "overlap": 0.5},
        "task": "segmentation",
    }


def train(path: pathlib.Path, steps: int) -> None:
    """Lungs and bones on the grid of the network; patches half of which hold a bone in their middle."""
    import slicerio
    import torch

    import resvox
    from resvox.preprocessing import Preprocessing
    from resvox.volumes import read_volume
    from resvox.workflow.demo_data import segment_values

    drawn_path = slicerio.get_testdata_file("Segmentation.seg.nrrd")
    drawn, values = read_volume(drawn_path), segment_values(pathlib.Path(drawn_path))
    lungs = [value for name, value in values.items() if "lung" in name]
    bones = [value for name, value in values.items() if name == "ribs" or "column" in name]
    target = np.where(np.isin(drawn.array, lungs), 1, np.where(np.isin(drawn.array, bones), 2, 0)).astype(np.uint8)
    plain = argparse.Namespace(classes=3, small=False, folder=0)
    image = read_volume(slicerio.get_testdata_file("CTChest4.nrrd"))
    prepared = Preprocessing.from_dict(metadata(plain)["preprocessing"]).apply(image)  # type: ignore[arg-type]
    array, labels = prepared.array, prepared.labels(drawn.with_array(target))
    torch.manual_seed(0)
    network = resvox.create_model("unet", encoder_name="resnet18", spatial_dims=3, in_channels=1, num_classes=3)
    network.to(memory_format=torch.channels_last_3d).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    rng, side = np.random.default_rng(0), 48
    places = [np.argwhere(labels == value) for value in (1, 2)]
    for step in range(steps):
        images, truths = [], []
        for index in range(2):
            centre = places[index][rng.integers(len(places[index]))] + rng.integers(-20, 20, 3)
            start = np.clip(centre - side // 2, 0, np.array(labels.shape) - side)
            box = tuple(slice(s, s + side) for s in start)
            noise = rng.normal(0, rng.uniform(0, 0.03), (side,) * 3)
            images.append(array[(slice(None), *box)] + noise[None])
            truths.append(labels[box])
        x = torch.from_numpy(np.stack(images).astype(np.float32)).contiguous(memory_format=torch.channels_last_3d)
        y = torch.from_numpy(np.stack(truths).astype(np.int64))
        # Float32: gradients of channels-last bfloat16 convolutions come out wrong on some processors (seen: Zen 5).
        loss = torch.nn.functional.cross_entropy(network(x), y, weight=torch.tensor([1.0, 1.0, 3.0]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 10 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    resvox.save_model(network.eval(), path, metadata=metadata(argparse.Namespace(classes=3, small=False, folder=0)))


def widen(trained: pathlib.Path, path: pathlib.Path, options: argparse.Namespace) -> None:
    """The trained network with more classes: variants of the trained ones, some nearly as likely, most far less."""
    import torch

    import resvox

    network = resvox.load_model(trained)
    if options.classes > 3:
        wide = resvox.create_model(
            "unet", encoder_name="resnet18", spatial_dims=3, in_channels=1, num_classes=options.classes
        )
        state = network.state_dict()
        torch.manual_seed(1)
        for name in ("head.weight", "head.bias"):
            own = state[name]
            extra = own[torch.arange(3, options.classes) % 3]
            less = 10 * torch.rand(len(extra)) if name == "head.bias" else 0
            state[name] = torch.cat([own, extra + 0.2 * own.std() * torch.randn_like(extra) - less])
        wide.load_state_dict(state)
        network = wide.eval()
    resvox.save_model(network, path, metadata=metadata(options))


# --- one path, in a process of its own --------------------------------------------------------------------------------


def in_process(options: argparse.Namespace, path: str) -> dict[str, object]:
    command = [sys.executable, __file__, "--child", path, "--work", str(options.work), "--device", options.device]
    command += ["--classes", str(options.classes), *(["--small"] if options.small else [])]
    command += ["--folder", str(options.folder)] if options.folder else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def memory_gb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e9


def cpu_seconds() -> float:
    """Of this process, all threads: what other work on the machine changes least."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


class Watch:
    """Seconds a stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: str, work: Callable[[], object]) -> object:
        start = time.perf_counter()
        made = work()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
        return made


def run_monai(options: argparse.Namespace) -> dict[str, object]:
    """MONAI's transforms as its tutorials chain them; the network in float32, or under bfloat16 autocast."""
    import torch
    from monai.data import decollate_batch
    from monai.inferers import sliding_window_inference
    from monai.transforms import (
        AsDiscreted,
        Compose,
        EnsureChannelFirstd,
        Invertd,
        LoadImaged,
        Orientationd,
        SaveImaged,
        ScaleIntensityRanged,
        Spacingd,
    )

    import resvox

    network = resvox.load_model(model_path(options)).to(options.device)
    spacing_mm = metadata(options)["preprocessing"]["spacing_mm"]  # type: ignore[index]
    before = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="SPL"),
            Spacingd("image", pixdim=spacing_mm, mode="bilinear"),
            ScaleIntensityRanged("image", a_min=WINDOW[0], a_max=WINDOW[1], b_min=-1.0, b_max=1.0, clip=True),
        ]
    )
    out = result(options, options.child)
    after = [
        Invertd("pred", transform=before, orig_keys="image", nearest_interp=False, to_tensor=True),
        AsDiscreted("pred", argmax=True),
        SaveImaged("pred", output_dir=out, output_postfix="", separate_folder=False, print_log=False, dtype=np.uint8),
    ]
    autocast = options.child.endswith("amp")
    own, cpu, watch, start = memory_gb(), cpu_seconds(), Watch(), time.perf_counter()
    for path in scans(options):
        data = watch("read, preprocess", lambda path=path: before({"image": str(path)}))

        def network_pass(data: dict = data) -> object:  # type: ignore[type-arg]
            with torch.inference_mode(), torch.autocast(options.device, dtype=torch.bfloat16, enabled=autocast):
                batch = data["image"][None].to(options.device)
                return sliding_window_inference(batch, [roi(options)] * 3, 1, network, overlap=0.5, mode="gaussian")

        logits = watch("network", network_pass)
        data["pred"] = logits[0].float()
        (item,) = decollate_batch([data], detach=False) if isinstance(data, list) else (data,)
        for stage, transform in zip(("restore", "labels", "write"), after, strict=True):
            item = watch(stage, lambda transform=transform, item=item: transform(item))
    total = time.perf_counter() - start
    cpu = cpu_seconds() - cpu
    return {"seconds": watch.seconds, "total": total, "cpu": cpu, "own_gb": own, "peak_gb": peak_gb()}


def run_resvox(options: argparse.Namespace) -> dict[str, object]:
    """`resvox.workflow.predict`, a model loaded and an engine chosen included in the total."""
    import torch  # noqa: F401 - the interpreter's own memory holds it, as it does in MONAI's process

    import resvox  # noqa: F401
    from resvox.workflow import predict

    variants = {
        "resvox-plain": {"engine": "torch-plain", "precision": "float32"},
        "resvox-float32": {"precision": "float32"},
        "resvox": {},
    }
    own, cpu, start = memory_gb(), cpu_seconds(), time.perf_counter()
    done = predict(
        model_path(options),
        scans(options),
        result(options, options.child),
        overwrite=True,
        device=options.device,
        **variants[options.child],
    )
    total = time.perf_counter() - start
    assert done.ok, [case.reason for case in done.cases]
    cpu = cpu_seconds() - cpu
    memory = {"own_gb": own, "peak_gb": peak_gb()}
    return {"seconds": done.seconds, "total": total, "cpu": cpu, **memory, "engine": done.engine}


CHILDREN = {"monai": run_monai, "resvox": run_resvox}


# --- what came out --------------------------------------------------------------------------------------------------


def label_map(options: argparse.Namespace, path: str) -> np.ndarray:
    from resvox.volumes import read_volume

    return read_volume(result(options, path) / scans(options)[0].name).array


def agreement(options: argparse.Namespace, path: str, reference: np.ndarray) -> tuple[float, float]:
    """Share of equal voxels, and the least Dice of the foreground labels that either holds."""
    own = label_map(options, path)
    dice = []
    for value in np.union1d(np.unique(own), np.unique(reference)):
        if value:
            a, b = own == value, reference == value
            dice.append(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))
    return float((own == reference).mean()), min(dice, default=1.0)


def report(options: argparse.Namespace, rows: list[dict]) -> str:  # type: ignore[type-arg]
    best = {path: min((r for r in rows if r["path"] == path), key=lambda r: r["total"]) for path in options.paths}
    plain = best.get("monai")
    reference = label_map(options, "resvox-plain") if "resvox-plain" in best else None
    lines = [
        "| path | engine | read, preprocess | network | restore, write | total s | MONAI / this | CPU s | MONAI / this "
        "| peak GB (above imports) | labels = plain float32 (least Dice) |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for path, row in best.items():
        seconds = row["seconds"]
        first = sum(seconds.get(name, 0.0) for name in ("read, preprocess", "read", "preprocess"))
        last = sum(seconds.get(name, 0.0) for name in ("restore", "labels", "write"))
        ratio, ratio_cpu = (f"{plain[key] / row[key]:.1f}" if plain else "-" for key in ("total", "cpu"))
        same = "-"
        if reference is not None:
            share, dice = agreement(options, path, reference)
            same = f"{100 * share:.3f} % ({dice:.4f})"
        memory = f"{row['peak_gb']:.2f} ({row['peak_gb'] - row['own_gb']:.2f})"
        lines.append(
            f"| {SAID[path]} | {row.get('engine', 'torch')} | {first:.1f} | {seconds.get('network', 0):.1f} "
            f"| {last:.1f} | {row['total']:.1f} | **{ratio}** | {row['cpu']:.0f} | {ratio_cpu} | {memory} | {same} |"
        )
    size = "x".join(map(str, label_map(options, options.paths[-1]).shape[::-1]))
    what = f"{options.folder} scans of {size}" if options.folder else f"a CT of {size} voxels"
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "monai", *extra_packages()))
    head = [
        f"## {what}, {options.classes} classes, windows of {roi(options)} cubed, overlap 0.5, on {options.device}",
        "",
        f"{datetime.date.today()}; {versions}, Python {platform.python_version()}; {processor()}, "
        f"{os.cpu_count()} cores; load average at the end {os.getloadavg()[0]:.1f}; "
        f"least total of {options.repeats} turns.",
        "CPU s: seconds of the process over all cores, which other work on the machine changes less than the clock's.",
        "Stages of our path overlap where there are several scans, so they may add up to more than the total.",
        "",
    ]
    return "\n".join([*head, *lines, ""])


def extra_packages() -> list[str]:
    found = {each.metadata["Name"].lower() for each in importlib.metadata.distributions() if each.metadata["Name"]}
    return [name for name in ("openvino", "onnxruntime") if name in found]


def processor() -> str:
    text = pathlib.Path("/proc/cpuinfo").read_text() if pathlib.Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")]
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    has = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags.split()]
    return f"{names[0] if names else platform.processor()} ({', '.join(has)})"


if __name__ == "__main__":
    main()
