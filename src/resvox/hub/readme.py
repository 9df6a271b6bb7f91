"""The model card: the README that a hub shows, written from what a model file holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from resvox._version import __version__
from resvox.hub.address import HubAddress

LIMITS = """Not a medical device: not for diagnosis. The model was scored on the data named above alone; on other
scanners, protocols and patients it may fail. Check it on your own data first."""


@dataclass(frozen=True, kw_only=True)
class TaskTexts:
    """Words of a model card that depend on the task.

    Args:
        pipeline: the hub's name of the task; None where it has none.
        labels: the title of the table of labels.
        number: what a label's number is called.
        size: what the size of the input is called.
    """

    pipeline: str | None = None
    labels: str = "Labels"
    number: str = "value"
    size: str = "window"


TEXTS = {
    "segmentation": TaskTexts(pipeline="image-segmentation"),
    "classification": TaskTexts(pipeline="image-classification", labels="Classes", number="index", size="image"),
}


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """What a model card is written from.

    Args:
        task: "segmentation", "classification" or "regression".
        network: the network's name.
        parameters: how many numbers it learned.
        folds: how many networks are averaged.
        channel_names: of a scan, in order.
        spatial_dims: 2 or 3.
        input_size: voxels of a window, or of a whole image.
        preprocessing: orientation and spacing of what the network sees; None where they are those of the file.
        labels: name and value of each label; empty for regression.
        regions: name and values of each region that is an output of its own; empty where each label is one.
        target_names: of the values that a regression gives.
        training: as in the model file: dataset, steps, scores.
    """

    task: str
    network: str
    parameters: int
    folds: int = 1
    channel_names: tuple[str, ...]
    spatial_dims: int
    input_size: tuple[int, ...]
    preprocessing: Mapping[str, Any]
    labels: Mapping[str, int] = field(default_factory=dict)
    regions: Mapping[str, Sequence[int]] = field(default_factory=dict)
    target_names: tuple[str, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)


def model_card(model: ModelDescription, address: HubAddress, *, licence: str, data: str = "") -> str:
    """The text of README.md: front matter for the hub, how to use the model, and what it was made from.

    Args:
        model: its description.
        address: where it is published.
        licence: the identifier of its licence.
        data: what it was trained on, in the publisher's words.
    """
    parts = [_front_matter(model, licence), f"# {address.repository.split('/')[1]}", _summary(model), _usage(address)]
    parts += [_labels(model), _inputs(model), _training(model, data)]
    parts.append(f"## Licence and limits\n\nLicence: {licence}. Written by resvox {__version__}.\n\n{LIMITS}")
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(model: ModelDescription, licence: str) -> str:
    tags = ["resvox", "medical-imaging", model.task, f"{model.spatial_dims}d", model.network]
    rows = {"license": licence, "library_name": "resvox", "pipeline_tag": _texts(model).pipeline, "tags": tags}
    # JSON is YAML, and quotes what has to be quoted
    lines = [f"{name}: {json.dumps(value)}" for name, value in rows.items() if value]
    return "\n".join(["---", *lines, "---"])


def _summary(model: ModelDescription) -> str:
    dims = f"{model.spatial_dims}D"
    several = f", the average of {model.folds} networks" if model.folds > 1 else ""
    return (
        f"A {dims} model for {model.task} of {_listed(model.channel_names)}: `{model.network}` with "
        f"{model.parameters:,} parameters{several}, made with resvox."
    )


def _usage(address: HubAddress) -> str:
    return (
        f"## Use\n\n```console\n$ pip install 'resvox[hub]'\n$ resvox predict {address} scans/ -o predictions/\n```\n\n"
        f'```python\nimport resvox\n\nmodel = resvox.load_model("{address}")  # or framework="keras"\n```'
    )


def _labels(model: ModelDescription) -> str:
    if model.target_names:
        return f"## Values\n\nThe outputs are {_listed(model.target_names)}, in the units of the training data."
    rows = sorted(model.labels.items(), key=lambda item: item[1])
    texts = _texts(model)
    parts = [f"## {texts.labels}", _table((texts.number, "name"), ((value, name) for name, value in rows))]
    if model.regions:
        parts.append("The network finds regions, each of which joins values; they may overlap.")
        joined = ((name, ", ".join(map(str, values))) for name, values in model.regions.items())
        parts.append(_table(("region", "values"), joined))
    return "\n\n".join(parts)


def _texts(model: ModelDescription) -> TaskTexts:
    return TEXTS.get(model.task, TaskTexts())


def _inputs(model: ModelDescription) -> str:
    steps = model.preprocessing
    spacing = steps.get("spacing_mm")
    rows = [
        ("channels", ", ".join(model.channel_names)),
        ("orientation", steps.get("orientation") or "as stored"),
        ("spacing", f"{_by(spacing)} mm" if spacing else "as stored"),
        (_texts(model).size, f"{_by(model.input_size)} voxels"),
    ]
    return "## Input\n\nPreparation is part of the model file; `resvox predict` applies it.\n\n" + _table(
        ("", ""), rows
    )


def _training(model: ModelDescription, data: str) -> str:
    lines = ["## Data and scores"]
    if data:
        lines.append(data.strip())
    facts = [(name, model.training[name]) for name in ("dataset", "step", "steps") if name in model.training]
    scores = [row for name in ("dice", "scores") for row in _scores(model.training.get(name), name)]
    if facts:
        lines.append(_table(("training", ""), facts))
    if scores:
        lines.append("On the validation cases of the training, which also chose the weights:")
        lines.append(_table(("score", "value"), scores))
    if len(lines) == 1:
        lines.append("Nothing about its data is recorded in the model file.")
    return "\n\n".join(lines)


def _scores(values: Any, name: str) -> Iterable[tuple[str, str]]:
    if not isinstance(values, Mapping):
        return
    for label, value in values.items():
        if isinstance(value, (int, float)):
            yield (f"Dice, {label}" if name == "dice" else str(label)), f"{value:.4g}"


def _table(head: tuple[str, str], rows: Iterable[tuple[Any, Any]]) -> str:
    lines = [head, ("---", "---"), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in lines)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _by(numbers: Iterable[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)
