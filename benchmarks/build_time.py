"""Building a network against the bare cost of its tensors: allocate each, write its initial values once.

    python benchmarks/build_time.py

writes build_time.md beside this file: interleaved runs in one process on one thread, in seconds of the processor (so
that other work on the machine counts less), and MONAI's network of the same name, where it has one, for scale.
"""

from __future__ import annotations

import argparse
import datetime
import math
import pathlib
import platform
import statistics
import time
from collections.abc import Callable

import torch

import resvox
from resvox.blueprint import Blueprint
from resvox.blueprint import leaves as lf

CASES = (
    ("resnet50", {"spatial_dims": 3}),
    ("resnet50", {"spatial_dims": 2}),
    ("resnet101v2", {"spatial_dims": 3}),
    ("unet", {"spatial_dims": 3, "encoder_name": "resnet34"}),
)
GOAL = 1.2


def bare_work(blueprint: Blueprint) -> Callable[[], list[torch.Tensor]]:
    """The unavoidable work: allocate every tensor and write its initial values once."""
    drawn = [
        leaf for _, leaf in blueprint.network.leaves() if isinstance(leaf, lf.Conv | lf.TransposedConv | lf.Linear)
    ]
    norms = [leaf for _, leaf in blueprint.network.leaves() if isinstance(leaf, lf.Norm)]
    drawings = []
    for leaf in drawn:
        for _, spec in leaf.own_tensors():
            normal = isinstance(leaf, lf.Conv) and leaf.init == "he_fan_out"
            spread = math.sqrt(2 / (spec.shape[0] * math.prod(spec.shape[2:])))
            drawings.append((spec.shape, normal, spread))
    channels = [leaf.channels for leaf in norms]

    @torch.no_grad()
    def work() -> list[torch.Tensor]:
        tensors = []
        for shape, normal, spread in drawings:
            tensor = torch.empty(shape)
            tensors.append(tensor.normal_(0, spread) if normal else tensor.uniform_(-spread, spread))
        for count in channels:  # weight, bias, running mean, running variance, step counter
            tensors += [torch.empty(count).fill_(value) for value in (1.0, 0.0, 0.0, 1.0)]
            tensors.append(torch.empty((), dtype=torch.long).zero_())
        return tensors

    return work


def monai_work(name: str, options: dict[str, object]) -> Callable[[], object] | None:
    """MONAI's network of that name, or None."""
    from monai.networks import nets

    make = getattr(nets, name, None)
    if make is None or name == "unet":
        return None
    dims = options["spatial_dims"]
    return lambda: make(spatial_dims=dims, n_input_channels=3, num_classes=1000, bias_downsample=False)


def timed(works: dict[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Processor seconds of each work in interleaved runs; the first run is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(runs + 1):
        for name, work in works.items():
            start = time.process_time()
            made = work()
            taken = time.process_time() - start
            del made  # memory is released outside the measured time
            if turn:
                seconds[name].append(taken)
    return seconds


def over(seconds: dict[str, list[float]], name: str) -> str:
    """A work's cost over the bare one's: of the quickest runs, and (in brackets) the median over the turns."""
    turns = statistics.median(a / b for a, b in zip(seconds[name], seconds["bare"], strict=True))
    return f"**{min(seconds[name]) / min(seconds['bare']):.2f}** ({turns:.2f})"


def measure(name: str, options: dict[str, object], runs: int) -> str:
    """A row of the table."""
    blueprint = resvox.get_blueprint(name, **options)  # type: ignore[arg-type]
    works: dict[str, Callable[[], object]] = {
        "bare": bare_work(blueprint),
        "resvox": lambda: resvox.create_model(name, **options),  # type: ignore[arg-type]
    }
    monai = monai_work(name, options)
    if monai:
        works["monai"] = monai
    seconds = timed(works, runs)
    found = {key: min(values) for key, values in seconds.items()}
    label = ", ".join([name, *(f"{key}={value}" for key, value in options.items())])
    peer = f"{found['monai']:.3f} | {over(seconds, 'monai')}" if monai else "- | -"
    millions = (blueprint.parameters + blueprint.statistics) / 1e6
    ours = f"{found['resvox']:.3f} | {over(seconds, 'resvox')}"
    return f"| {label} | {millions:.1f} M | {found['bare']:.3f} | {ours} | {peer} |"


def processor() -> str:
    """The processor's name according to the system."""
    path = pathlib.Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in path.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def report(rows: list[str], runs: int) -> str:
    """The Markdown page."""
    import monai

    return "\n".join(
        [
            "# Building a network",
            "",
            "`create_model` in PyTorch against allocating and initialising the same tensors;",
            f"goal for a 3D resnet50: at most {GOAL} times.",
            f"Processor seconds on one thread, the minimum of {runs} interleaved runs in one process (`python",
            "benchmarks/build_time.py`); ratios of the minima, in brackets the median ratio over the runs, which",
            "other work on the machine raises.",
            "",
            f"{datetime.date.today().isoformat()}; resvox {resvox.__version__}, torch {torch.__version__}, "
            f"MONAI {monai.__version__}, Python {platform.python_version()};",
            f"{processor()}.",
            "",
            "| network | values | bare | resvox | resvox / bare | MONAI | MONAI / bare |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=25)
    torch.set_num_threads(1)
    runs = parser.parse_args().runs
    text = report([measure(name, dict(options), runs) for name, options in CASES], runs)
    pathlib.Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
