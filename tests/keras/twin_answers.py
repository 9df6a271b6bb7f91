"""PyTorch's answers to the cases, written to a folder: ``python twin_answers.py FOLDER [full]``."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import torch
from twin_cases import Case, all_cases, answer_key, everything_full, random_image, random_tensors

import resvox.keras
import resvox.keras.tensors
from resvox.torch import build
from resvox.torch.tensors import fill
from resvox.torch.transformers import MaskProduct

# A mask logit on the other side of 0 is another network. PyTorch's own float32 and float64 are 6e-6 apart there.
MARGIN = 3e-5


def watch_margins(model: torch.nn.Module, case: Case) -> None:
    """Refuse a case in which rounding could block a token that another framework attends."""

    def check(module: torch.nn.Module, given: object, masks: torch.Tensor) -> None:
        nearest = float(masks.abs().min())
        assert nearest > MARGIN, f"{case.id}: a mask logit of {nearest:.1e}; give the case another image_seed"

    for module in model.modules():
        if isinstance(module, MaskProduct):
            module.register_forward_hook(check)


def answer(case: Case, folder: Path) -> None:
    """Output and maps, channels last, for every size of a case."""
    blueprint = case.blueprint()
    model = build(blueprint)
    fill(model, random_tensors(blueprint))
    watch_margins(model, case)
    for size in case.sizes:
        image = torch.from_numpy(np.moveaxis(random_image(blueprint, size, case.image_seed), -1, 1).copy())
        # the model alone, not its layers: a supervised one gives every output then
        model.training = getattr(blueprint.network, "supervision", None) is not None
        with torch.no_grad():
            output, maps = model(image), model.forward_pyramid(image)
        if blueprint.task == "features" and isinstance(output, list):
            output = output[-1]
        outputs = output if isinstance(output, list) else [output]
        arrays = {f"output{number or ''}": x for number, x in enumerate(outputs)}
        arrays |= {f"P{level}": x for level, x in enumerate(maps, start=1)}
        np.savez(
            folder / f"{answer_key(case, size)}.npz",
            **{name: np.moveaxis(x.numpy(), 1, -1) for name, x in arrays.items()},
        )


def portable(folder: Path) -> None:
    """A model saved by Keras on its torch backend, and what it says, for the other backends to load."""
    case = next(case for case in all_cases() if case.id == "unet-3d-linear")
    model = resvox.keras.build(case.blueprint())
    resvox.keras.tensors.fill(model, random_tensors(model.blueprint))
    model.save(folder / "portable.keras")
    image = random_image(model.blueprint, case.sizes[0])
    output = keras.ops.convert_to_numpy(model(image, training=False))
    np.savez(folder / "portable.npz", image=image, output=output)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in everything_full() if sys.argv[2:] == ["full"] else all_cases():
        answer(each, Path(sys.argv[1]))
    portable(Path(sys.argv[1]))
