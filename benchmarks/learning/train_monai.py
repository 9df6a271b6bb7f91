"""MONAI's tutorial recipe for brain tumours: SegResNet, Dice of the regions, Adam, cosine, random crops and flips.

From MONAI's tutorial "brats_segmentation_3d": the network and its options, the loss, the transforms, the optimizer and
the sliding windows. The patch has 128 mm along each axis (224 x 224 x 144 there), or as many as the largest case, and
the cosine goes over the budget of time. The tutorial's learning rate, 1e-4, is for 300 epochs of hundreds of
patients; `--rate` is another.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from contender import HALF, PREDICTIONS, Budget, Description, Settings, read_settings, save_facts, save_prediction

PATCH = {1.0: 128, 2.0: 64}  # voxels along an axis, by spacing in mm
FACTOR = 8  # the sizes that the network takes are multiples of it


def cases_of(settings: Settings, part: str) -> list[dict[str, Any]]:
    """The files of the cases to train ("Tr") or to predict ("Ts")."""
    root = next(settings.data.glob("Dataset*"))
    found = sorted({path.name.rpartition("_")[0] for path in (root / f"images{part}").iterdir()})
    cases, channels = [], Description.read(settings.data).channels
    for case in found:
        images = [str(root / f"images{part}" / f"{case}_{place:04d}.nii") for place in range(channels)]
        label = {"label": str(root / f"labels{part}" / f"{case}.nii")} if part == "Tr" else {}
        cases.append({"image": images, "case": case, **label})
    return cases


@dataclass(frozen=True)
class Regions:
    """(1, *spatial) values to (regions, *spatial) 0 and 1."""

    values: tuple[tuple[int, ...], ...]

    def __call__(self, label: Any) -> Any:
        """The planes of a label map."""
        import torch

        planes = [torch.isin(label[0], torch.tensor(values, dtype=label.dtype)) for values in self.values]
        return torch.stack(planes).float()


def fixed_transforms(settings: Settings, keys: Sequence[str]) -> list[Any]:
    """What is done once to each case."""
    from monai import transforms as T

    spacing = settings.spacing_mm or 1.0
    modes = ["bilinear", "nearest"][: len(keys)]
    steps: list[Any] = [
        T.LoadImaged(keys=keys, reader="NibabelReader", image_only=True),
        T.EnsureChannelFirstd(keys=keys),
    ]
    steps += [T.Orientationd(keys=keys, axcodes="RAS", labels=None)]
    steps += [T.CropForegroundd(keys=keys, source_key="image", allow_smaller=True)]
    steps += [T.Spacingd(keys=keys, pixdim=(spacing,) * 3, mode=modes)] if spacing != 1 else []
    if "label" in keys:
        steps += [T.Lambdad(keys="label", func=Regions(tuple(Description.read(settings.data).regions.values())))]
    scale: Any = T.NormalizeIntensityd(keys="image", nonzero=True, channel_wise=True)
    if Description.read(settings.data).is_ct:  # the window of its tutorials for organs of the abdomen
        scale = T.ScaleIntensityRanged(keys="image", a_min=-57, a_max=164, b_min=0.0, b_max=1.0, clip=True)
    return [*steps, scale, T.EnsureTyped(keys=keys)]


def patch_size(settings: Settings, prepared: Sequence[dict[str, Any]]) -> tuple[int, ...]:
    """Voxels of a patch: no axis is longer than the largest case needs."""
    largest = np.max([each["image"].shape[1:] for each in prepared], axis=0)
    return tuple(min(PATCH[settings.spacing_mm or 1.0], -(-int(each) // FACTOR) * FACTOR) for each in largest)


def random_transforms(size: tuple[int, ...]) -> list[Any]:
    """What changes with each sample, as in the tutorial."""
    from monai import transforms as T

    return [
        T.SpatialPadd(keys=("image", "label"), spatial_size=size),
        T.RandSpatialCropd(keys=("image", "label"), roi_size=size, random_size=False),
        *[T.RandFlipd(keys=("image", "label"), prob=0.5, spatial_axis=axis) for axis in range(3)],
        T.RandScaleIntensityd(keys="image", factors=0.1, prob=1.0),
        T.RandShiftIntensityd(keys="image", offsets=0.1, prob=1.0),
        T.ToTensord(keys=("image", "label"), track_meta=False),
    ]


def prepare(settings: Settings) -> list[dict[str, Any]]:
    """The cases to train on, with all that is done once."""
    from monai import transforms as T
    from monai.data import CacheDataset

    files = cases_of(settings, "Tr")
    held = CacheDataset(files, T.Compose(fixed_transforms(settings, ("image", "label"))), num_workers=1, progress=False)
    return [held[place] for place in range(len(files))]


def batches(settings: Settings, prepared: list[dict[str, Any]], size: tuple[int, ...]) -> Any:
    """An endless iterator of batches of one patch; the cases take turns."""
    from monai import transforms as T
    from monai.data import DataLoader, Dataset

    workers = max(0, settings.threads - 1) if settings.device == "cuda" else 0
    samples = Dataset(prepared * 5000, T.Compose(random_transforms(size)))
    return iter(
        DataLoader(samples, batch_size=1, shuffle=True, num_workers=workers, pin_memory=settings.device == "cuda")
    )


def train(network: Any, settings: Settings, source: Any, rate: float) -> tuple[int, float, Any]:
    """Steps until the time is spent; how many, the seconds, and the weights at half the time."""
    import torch
    from monai.losses import DiceLoss

    loss_of = DiceLoss(smooth_nr=0, smooth_dr=1e-5, squared_pred=True, to_onehot_y=False, sigmoid=True)
    optimizer = torch.optim.Adam(network.parameters(), rate, weight_decay=1e-5)
    is_cuda = settings.device == "cuda"
    scaler = torch.amp.GradScaler("cuda", enabled=is_cuda)
    steps, half = 0, network.state_dict()
    network.train()
    batch = next(source)
    budget = Budget(settings.seconds)
    while budget.share < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * budget.share))
        image, label = (batch[key].to(settings.device, non_blocking=True) for key in ("image", "label"))
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(settings.device, enabled=is_cuda, dtype=torch.float16 if is_cuda else torch.bfloat16):
            loss = loss_of(network(image), label)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        loss.item()
        steps += 1
        batch = next(source)
        if budget.passes_half():
            half = copy.deepcopy(network.state_dict())
    return steps, budget.spent, half


def predict(network: Any, settings: Settings, size: tuple[int, ...], part: str) -> None:
    """Predict the held-out cases with sliding windows and bring the result back to the grid of the scan."""
    import nibabel
    import torch
    from monai import transforms as T
    from monai.data import decollate_batch, list_data_collate
    from monai.inferers import sliding_window_inference

    network.eval()
    before = T.Compose(fixed_transforms(settings, ("image",)))
    after = T.Compose(
        [T.Invertd(keys="pred", transform=before, orig_keys="image", nearest_interp=False, to_tensor=True)]
    )
    is_cuda = settings.device == "cuda"
    for case in cases_of(settings, "Ts"):
        data = list_data_collate([before(case)])
        with torch.no_grad(), torch.autocast(settings.device, enabled=is_cuda):
            logits = sliding_window_inference(data["image"].to(settings.device), size, 1, network, overlap=0.5)
        data["pred"] = torch.sigmoid(logits.float()).cpu()
        found = after(decollate_batch(data)[0])["pred"]
        chances = np.asarray(found)
        labels = np.zeros(chances.shape[1:], np.uint8)
        for plane, value in zip(chances, Description.read(settings.data).order, strict=True):
            labels[plane > 0.5] = value
        assert labels.shape == nibabel.load(case["image"][0]).shape
        save_prediction(settings.out, part, case["case"], labels.transpose(2, 1, 0))


def main() -> None:
    """The command line; `--rate` before the options of all frameworks."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--rate", type=float, default=1e-3)
    own, others = parser.parse_known_args()
    settings = read_settings(others)
    import torch
    from monai.networks.nets import SegResNet
    from monai.utils import set_determinism

    settings.out.mkdir(parents=True, exist_ok=True)
    set_determinism(settings.seed)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True
    torch.set_num_threads(settings.threads)
    described = Description.read(settings.data)
    network = SegResNet(
        blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1), init_filters=16, in_channels=described.channels,
        out_channels=len(described.regions), dropout_prob=0.2,
    ).to(settings.device)  # fmt: skip
    prepared = prepare(settings)
    size = patch_size(settings, prepared)
    steps, seconds, half = train(network, settings, batches(settings, prepared, size), own.rate)
    print(f"MONAI: {steps} steps in {seconds:.1f} s", flush=True)
    predict(network, settings, size, PREDICTIONS)
    network.load_state_dict(half)
    predict(network, settings, size, HALF)
    save_facts(
        settings.out, settings, framework="MONAI", steps=steps, training_seconds=seconds, learning_rate=own.rate,
        patch_size=list(size), batch_size=1,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
