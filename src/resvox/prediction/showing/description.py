"""The description of a model, the same for every kind of source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from resvox.errors import WeightsError
from resvox.preprocessing import preprocessing_of

if TYPE_CHECKING:
    from resvox.blueprint import Blueprint
    from resvox.cards import ModelCard


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is known about a model; what is not known is None or empty, and left out of `to_dict`.

    Args:
        path: as it was given.
        kind: of source, in words.
        files: of the networks whose outputs are averaged, or the one.
        network: name in the catalog.
        options: of the network, as `resvox.create_model` takes them.
        parameters: learned values of one network.
        task: what it was trained for.
        channels: names of the scan's channels.
        labels: names and values of the label map, or of classes.
        regions: names and the values that they join.
        ignore: the value of voxels that were not annotated.
        orientation: where the axes of what the network sees point; None where they are the file's.
        spacing_mm: of what the network sees, along those axes; None where it is the file's.
        window: voxels that the network sees at once.
        inference: all about windows.
        preprocessing: as the model file holds it.
        outputs: how outputs become labels, where that is stated.
        training: where the model came from.
        scores: those that the source records.
        licence: as the source states it.
        note: why `resvox predict` does not take it, or what else is to be known.
    """

    path: str
    kind: str
    files: tuple[str, ...] = ()
    network: str | None = None
    options: Mapping[str, Any] | None = None
    parameters: int | None = None
    task: str | None = None
    channels: tuple[str, ...] = ()
    labels: Mapping[str, int] | None = None
    regions: Mapping[str, Any] | None = None
    ignore: int | None = None
    orientation: str | None = None
    spacing_mm: tuple[float, ...] | None = None
    window: tuple[int, ...] = ()
    inference: Mapping[str, Any] | None = None
    preprocessing: Mapping[str, Any] | None = None
    outputs: Mapping[str, Any] | None = None
    training: Mapping[str, Any] | None = None
    scores: Mapping[str, Any] | None = None
    licence: str | None = None
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without what is not known."""
        found = {item.name: _plain(getattr(self, item.name)) for item in fields(self)}
        return {name: value for name, value in found.items() if value not in (None, [], {}, "")}


def network_facts(blueprint: Blueprint, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Name, options and size of a network, as arguments of `Description`."""
    if options is None:
        options = _options_of(blueprint)
    base = {"spatial_dims": blueprint.spatial_dims, "in_channels": blueprint.in_channels}
    if blueprint.num_classes:
        base["num_classes"] = blueprint.num_classes
    return {
        "network": blueprint.name,
        "parameters": blueprint.parameters,
        "task": blueprint.task,
        "options": {**base, **options},
    }


def card_facts(card: ModelCard) -> dict[str, Any]:
    """What a model card states, as arguments of `Description`."""
    values = card.to_dict()
    prepared = preprocessing_of(card.preprocessing)
    training = dict(card.training or {})
    scores = {name: training.pop(name) for name in ("scores", "dice") if isinstance(training.get(name), Mapping)}
    regions = {name: list(each) for name, each in values.get("regions", {}).items()}
    return {
        "task": card.task,
        "channels": card.channel_names,
        "labels": values.get("labels"),
        "regions": regions or None,
        "ignore": values.get("ignore"),
        "orientation": prepared.orientation,
        "spacing_mm": prepared.spacing_mm,
        "window": card.input_size,
        "inference": values["inference"],
        "preprocessing": values["preprocessing"],
        "outputs": values.get("outputs"),
        "training": training or None,
        "scores": next(iter(scores.values())) if len(scores) == 1 else scores or None,
        "licence": training.get("license") or training.get("licence"),
    }


def _options_of(blueprint: Blueprint) -> dict[str, Any]:
    """The options that names and shapes of its tensors show; none where they show no network of the catalog."""
    from resvox.weights.architecture import UnclearError, describe

    try:
        return dict(describe({name: each.shape for name, each in blueprint.tensors().items()}).options)
    except (UnclearError, WeightsError):
        return {}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
