"""The scan, the network and their files: the chest CT that comes with slicerio, and a U-Net trained on it."""

from __future__ import annotations

import argparse
import pathlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from resvox.volumes import Volume

SPACING_MM = (1.0, 0.63, 0.63)
GRID_MM = 1.5
ROI = 96
WINDOW = (-1000.0, 1000.0)
LABELS = ("background", "lungs", "bones")


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


def prepare(options: argparse.Namespace, train_on: str) -> None:
    """Write the scans and the model; `train_on` is the device of its training."""
    for number, path in enumerate(scans(options)):
        shape = (40, 64, 64) if options.folder else (75, 128, 128) if options.small else (300, 512, 512)
        spacing = np.array((2.4, 1.5, 1.5) if options.folder else SPACING_MM) * (4 if options.small else 1)
        shift = np.random.default_rng(number).uniform(-40, 40, 3) if options.folder else np.zeros(3)
        write_ct(path, shape, tuple(spacing), seed=number, shift_mm=shift)
    trained = options.work / f"model3-{ROI}.safetensors"
    if not trained.exists():
        train(trained, options.steps, train_on)
    if not model_path(options).exists():
        widen(trained, model_path(options), options)


def source_scan() -> pathlib.Path:
    """The chest CT that comes with slicerio."""
    import slicerio

    return pathlib.Path(slicerio.get_testdata_file("CTChest4.nrrd"))


def drawn_labels() -> Volume:
    """Lungs (1) and bones (2) of the chest CT, as they come with it."""
    import slicerio

    from resvox.volumes import read_volume
    from resvox.workflow.demo.data import segment_values

    path = pathlib.Path(slicerio.get_testdata_file("Segmentation.seg.nrrd"))
    drawn, values = read_volume(path), segment_values(path)
    lungs = [value for name, value in values.items() if "lung" in name]
    bones = [value for name, value in values.items() if name == "ribs" or "column" in name]
    found = np.where(np.isin(drawn.array, lungs), 1, np.where(np.isin(drawn.array, bones), 2, 0))
    return drawn.with_array(found.astype(np.uint8))


def write_ct(
    path: pathlib.Path,
    shape: tuple[int, ...],
    spacing_mm: tuple[float, ...],
    *,
    seed: int = 0,
    shift_mm: np.ndarray | float = 0.0,
) -> None:
    """The chest CT that comes with slicerio, on another grid and with noise; kept where the file is there."""
    from resvox.volumes import Grid, Volume, read_volume, resample, write_volume

    if path.exists():
        return
    source = read_volume(source_scan())
    middle = source.grid.world_mm((np.array(source.grid.shape) - 1) / 2)
    direction = source.grid.direction
    origin = middle + shift_mm - direction @ ((np.array(shape) - 1) / 2 * np.array(spacing_mm))
    grid = Grid(shape, spacing_mm=spacing_mm, origin_mm=tuple(origin), direction=direction)
    sampled = resample(source, grid, fill=None).array
    noise = np.random.default_rng(seed).normal(0, 12, sampled.shape).astype(np.float32)
    write_volume(Volume.on_grid(np.rint(sampled + noise).astype(np.int16), grid), path)


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


def train(path: pathlib.Path, steps: int, device: str = "cpu") -> None:
    """Lungs and bones on the grid of the network; half of the patches are centred on a bone."""
    import torch

    import resvox
    from resvox.preprocessing import Preprocessing
    from resvox.volumes import read_volume

    plain = argparse.Namespace(classes=3, small=False, folder=0)
    image = read_volume(source_scan())
    prepared = Preprocessing.from_dict(metadata(plain)["preprocessing"]).apply(image)  # type: ignore[arg-type]
    array, labels = prepared.array, prepared.labels(drawn_labels())
    torch.manual_seed(0)
    network = resvox.create_model("unet", encoder_name="resnet18", spatial_dims=3, in_channels=1, num_classes=3)
    network.to(device, memory_format=torch.channels_last_3d).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    rng, side, weight = np.random.default_rng(0), 48, torch.tensor([1.0, 1.0, 3.0], device=device)
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
        x = torch.from_numpy(np.stack(images).astype(np.float32)).to(device)
        y = torch.from_numpy(np.stack(truths).astype(np.int64)).to(device)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        # Float32: gradients of channels-last bfloat16 convolutions come out wrong on some processors (seen: Zen 5).
        loss = torch.nn.functional.cross_entropy(network(x), y, weight=weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 10 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    resvox.save_model(
        network.cpu().eval(), path, metadata=metadata(argparse.Namespace(classes=3, small=False, folder=0))
    )


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
