"""The drop-in against medicai's own code: the same weights, the same input; writes benchmarks/medicai_parity.md.

medicai has the import name of the drop-in package, so it is installed in a separate environment, whose Python is
``MEDICAI_PYTHON``. There a medicai model with random weights is evaluated; here the resvox model gets the same tensors
under its own names. Outputs and, of classifiers, P1 to P5 are compared.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "benchmarks" / "medicai_parity.md"
CASES: dict[str, dict[str, Any]] = {
    "ResNet18": {"input_shape": (33, 40, 3), "num_classes": 5},
    "ResNet50": {"input_shape": (17, 20, 18, 1), "num_classes": 3},
    "ResNet50v2": {"input_shape": (33, 40, 3), "num_classes": 5},
    "ResNet50vd": {"input_shape": (33, 40, 3), "num_classes": 5},
    "ResNeXt50": {"input_shape": (17, 20, 18, 1), "num_classes": 5},
    "SEResNet18": {"input_shape": (33, 40, 3), "num_classes": 5},
    "SEResNet50": {"input_shape": (17, 20, 18, 1), "num_classes": 5},
    "UNet resnet18": {"encoder_name": "resnet18", "input_shape": (32, 64, 32, 2), "num_classes": 3},
    "UNet resnet50_v2": {"encoder_name": "resnet50_v2", "input_shape": (64, 96, 3)},
    "UNet transpose": {"encoder_name": "resnet18", "input_shape": (64, 96, 3), "decoder_block_type": "transpose"},
}
PROGRAM = """
import sys
import keras, numpy as np
import medicai.models as m

rng, kept = np.random.default_rng(0), {}
model = getattr(m, sys.argv[1])(**eval(sys.argv[2]))
for weight in model.weights:
    fan_in = max(1, np.prod(weight.shape[:-1]))
    scales = "moving_var" in weight.path or "gamma" in weight.path
    value = rng.uniform(0.5, 1.5, weight.shape) if scales else rng.normal(0, 0.8 / np.sqrt(fan_in), weight.shape)
    kept["weight:" + weight.path] = value.astype("float32")
    weight.assign(kept["weight:" + weight.path])
x = kept["x"] = rng.normal(size=(2, *model.input_shape[1:])).astype("float32")
maps = [] if "encoder_name" in sys.argv[2] else [model.pyramid_outputs[f"P{level}"] for level in range(1, 6)]
answers = keras.Model(model.inputs, [model.output, *maps])([x], training=False)
np.savez(sys.argv[3], **kept, **{f"answer{n}": keras.ops.convert_to_numpy(a) for n, a in enumerate(answers)})
print(m.__file__)
"""

_ATTRIBUTES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "bias": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# medicai's layer -> resvox's, for post-activation nets, nets with a deep stem, and pre-activation nets
_STEM = [(r"conv1_conv", "conv1"), (r"conv1_bn", "bn1")]
_DEEP_STEM = [
    (r"conv1_conv", "conv1.0"),
    (r"conv1_bn", "conv1.1"),
    (r"conv2_conv", "conv1.3"),
    (r"conv2_bn", "conv1.4"),
    (r"conv3_conv", "conv1.6"),
    (r"conv3_bn", "bn1"),
]
_PREACT = [
    (r"conv1_conv", "stem.conv"),
    (r"stack(\d)_block(\d+)_pre_activation_bn", "stages.{0}.blocks.{1}.norm1"),
    (r"stack(\d)_block(\d+)_0_conv", "stages.{0}.blocks.{1}.downsample.conv"),
    (r"stack(\d)_block(\d+)_([1-9])_conv", "stages.{0}.blocks.{1}.conv{2}"),
    (r"stack(\d)_block(\d+)_([1-9])_bn", "stages.{0}.blocks.{1}.norm{2+1}"),
    (r"post_bn", "norm"),
    (r"predictions", "head.fc"),
]
_POSTACT = [
    (r"stack(\d)_block(\d+)_([1-9])_(conv|bn)", "layer{0+1}.{1}.{3}{2}"),
    (r"stack(\d)_block(\d+)_squeeze_excitation/conv\dd(?:_\d*[02468])?", "layer{0+1}.{1}.se.fc1"),
    (r"stack(\d)_block(\d+)_squeeze_excitation/conv\dd_\d*[13579]", "layer{0+1}.{1}.se.fc2"),
    (r"predictions", "fc"),
]
_SHORTCUT = [
    (r"stack(\d)_block(\d+)_0_conv", "layer{0+1}.{1}.downsample.0"),
    (r"stack(\d)_block(\d+)_0_bn", "layer{0+1}.{1}.downsample.1"),
]
_POOLED_SHORTCUT = [
    (r"stack(\d)_block(\d+)_0_conv", "layer{0+1}.{1}.downsample.1"),
    (r"stack(\d)_block(\d+)_0_bn", "layer{0+1}.{1}.downsample.2"),
]
_DECODER = [
    (r"decoder_stage(\d)_conv_(\d)_conv_\dD", "decoder.blocks.{5-0}.conv{1}"),
    (r"decoder_stage(\d)_conv_(\d)_norm_\dD", "decoder.blocks.{5-0}.bn{1}"),
    (r"decoder_stage(\d)_transpose_conv_\dD", "decoder.blocks.{5-0}.up.0"),
    (r"decoder_stage(\d)_norm_\dD", "decoder.blocks.{5-0}.up.1"),
    (r"conv\dd(?:_\d+)?", "head"),
]


def table_of(blueprint: Any) -> list[tuple[str, str]]:
    """The lines of the map that match a resvox network."""
    from resvox.blueprint import Sequence
    from resvox.blueprint import networks as net

    network = blueprint.network
    encoder = network.encoder if isinstance(network, net.UNet) else network
    if isinstance(encoder, net.PreActResNet):
        lines = _PREACT
    elif isinstance(encoder.conv1, Sequence):
        lines = _DEEP_STEM + _POOLED_SHORTCUT + _POSTACT
    else:
        lines = _STEM + _SHORTCUT + _POSTACT
    if not isinstance(network, net.UNet):
        return lines
    return _DECODER + [(theirs, f"encoder.{ours}") for theirs, ours in lines]


def ours_of(path: str, lines: list[tuple[str, str]]) -> str:
    """The resvox name of a medicai tensor."""
    layer, _, attribute = path.rpartition("/")
    for pattern, form in lines:
        match = re.fullmatch(pattern, layer)
        if match:
            return f"{_filled(form, match.groups())}.{_ATTRIBUTES[attribute]}"
    raise SystemExit(f"medicai_parity: no line for {path!r}")


def _filled(form: str, groups: tuple[str, ...]) -> str:
    """``{0}`` is the first group, ``{0+1}`` and ``{5-0}`` count on from it."""

    def value(match: re.Match[str]) -> str:
        text = match[1]
        if "+" in text:
            index, more = map(int, text.split("+"))
            return str(int(groups[index]) + more)
        if "-" in text:
            whole, index = map(int, text.split("-"))
            return str(whole - int(groups[index]))
        return groups[int(text)]

    return re.sub(r"\{([^}]*)\}", value, form)


def compare(theirs_python: str, case: str, folder: str) -> tuple[int, float]:
    """Parameters of the resvox model, and the largest difference of any output over that output's largest value."""
    import keras
    import numpy as np

    import medicai.models as m
    from resvox.keras.tensors import fill, to_torch_axes

    kind, arguments, answers = case.split()[0], CASES[case], f"{folder}/{case}.npz"
    done = subprocess.run(
        [theirs_python, "-c", PROGRAM, kind, repr(arguments), answers],
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        cwd=folder,
    )
    if done.returncode or str(ROOT) in done.stdout:
        raise SystemExit(f"{theirs_python} has no medicai of its own:\n{done.stderr[-2000:]}")
    model, kept = getattr(m, kind)(**arguments), np.load(answers)
    lines, wanted = table_of(model.blueprint), model.blueprint.tensors()
    theirs = {ours_of(n[7:], lines): to_torch_axes(kept[n]) for n in kept.files if n.startswith("weight:")}
    # medicai's U-Net keeps the norm before the classifier, which is not used
    fill(model, {name: value for name, value in theirs.items() if name in wanted or "encoder.norm." not in name})
    maps = [] if "encoder_name" in arguments else list(model.pyramid_outputs.values())
    found = keras.Model(model.inputs, [model.output, *maps])([kept["x"]], training=False)
    differences = [
        np.abs(keras.ops.convert_to_numpy(answer) - kept[f"answer{n}"]).max() / np.abs(kept[f"answer{n}"]).max()
        for n, answer in enumerate(found)
    ]
    return model.count_params(), float(max(differences))


def main() -> None:
    """Compare, print and write."""
    theirs = os.environ.get("MEDICAI_PYTHON", "")
    if not theirs:
        print("medicai_parity: set MEDICAI_PYTHON to a Python with medicai 0.0.4 to compare; nothing measured")
        return
    os.environ.setdefault("KERAS_BACKEND", "torch")
    sys.path[:0] = [str(ROOT / "drop-in" / "src")]
    import keras

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case, arguments in CASES.items():
            count, difference = compare(theirs, case, folder)
            rows.append(f"| {case} | {arguments['input_shape']} | {count:,} | {difference:.1e} |")
            print(rows[-1], flush=True)
    PAGE.write_text(
        f"# The drop-in against medicai 0.0.4, with shared weights\n\nWritten by `benchmarks/medicai_parity.py` on "
        f"{date.today()}: Keras {keras.__version__} on {keras.backend.backend()}, float32, evaluation. The largest "
        "difference of any output and, of classifiers, of P1 to P5, over that map's largest value.\n\n"
        "| model | input | count_params | difference |\n|---|---|---:|---:|\n" + "\n".join(rows) + "\n"
    )


if __name__ == "__main__":
    main()
