"""The model card of a bundle: its metadata, preprocessing, inferer and post-processing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resvox.cards import SegmentationCard
from resvox.cards.outputs import Outputs
from resvox.errors import ResvoxError, WeightsError
from resvox.prediction.bundle.inferer import inferer_of
from resvox.prediction.bundle.postprocessing import Decided, postprocessing_of, with_order
from resvox.prediction.bundle.transforms import preprocessing_of
from resvox.regions import Regions
from resvox.weights.bundle.configuration import METADATA
from resvox.weights.bundle.folder import Bundle
from resvox.weights.bundle.network import read_bundle_network

FORMAT = "network_data_format"
TEXTS = ("name", "version", "monai_version", "task", "authors", "copyright", "license", "data_source")


def card_of(bundle: Bundle) -> SegmentationCard:
    """The card of a bundle for segmentation.

    Raises:
        WeightsError: a network, transform or inferer that is not known here, code where a value is needed, or metadata
            without the names of channels and labels.
    """
    metadata, path = bundle.metadata, bundle.path / "configs" / METADATA
    network = read_bundle_network(bundle).options
    inputs, outputs = _named(metadata, "inputs", path), _named(metadata, "outputs", path)
    dims, count = int(network.get("spatial_dims", 3)), network.get("num_classes")
    inferer = inferer_of(bundle.configuration, dims)
    preprocessing, key = preprocessing_of(bundle.configuration, tuple(inputs), inferer.slice_axis)
    image = inputs.get(key) or next(iter(inputs.values()))
    channels = _names(image, f"{FORMAT}.inputs.{key}", network.get("in_channels"), path)
    pred = "pred" if "pred" in outputs else next(iter(outputs))
    names = _names(outputs[pred], f"{FORMAT}.outputs.{pred}", count, path)
    decided = postprocessing_of(bundle.configuration)
    labels, regions, rule = _labels(names, decided, path)
    return SegmentationCard(
        preprocessing=preprocessing.to_dict(),
        channel_names=channels,
        labels=labels,
        regions=regions,
        inference=inferer.windows,
        outputs=rule,
        training={"library": "MONAI", **_facts(metadata)},
    )


def _labels(names: tuple[str, ...], decided: Decided, path: Any) -> tuple[dict[str, int], Regions | None, Outputs]:
    """Names and values of the label map, its regions, and how outputs become them."""
    if not decided.one_by_one:
        return {name: value for value, name in enumerate(names)}, None, decided.outputs
    if len(names) == 1:
        return {"background": 0, names[0]: 1}, None, decided.outputs
    written = decided.written or tuple((output, output + 1) for output in range(len(names)))
    if sorted(output for output, _ in written) != list(range(len(names))):
        raise WeightsError(
            f"outputs {[output for output, _ in written]} of {len(names)} are written",
            expected="each once",
            path=path,
        )
    try:
        regions = Regions(
            values={names[output]: (value,) for output, value in written},
            class_order=tuple(value for _, value in written),
        )
    except ResvoxError as error:
        raise WeightsError(error.got, expected=error.expected, path=path) from error
    rule = with_order(decided.outputs, tuple(output for output, _ in written))
    return regions.labels(), regions, rule


def _named(metadata: Mapping[str, Any], part: str, path: Any) -> dict[str, Mapping[str, Any]]:
    """The inputs or outputs of the network that the metadata describes."""
    found = metadata.get(FORMAT)
    listed = found.get(part) if isinstance(found, Mapping) else None
    if not isinstance(listed, Mapping) or not listed or not all(isinstance(each, Mapping) for each in listed.values()):
        raise WeightsError(
            f"{FORMAT}.{part} is {'missing' if not listed else repr(listed)[:60]}",
            expected="an object of names, each with channel_def",
            path=path,
        )
    return dict(listed)


def _names(described: Mapping[str, Any], where: str, count: Any, path: Any) -> tuple[str, ...]:
    """The names of channels in order."""
    found = described.get("channel_def")
    names = dict(found) if isinstance(found, Mapping) else {}
    size = count if isinstance(count, int) else len(names)
    listed = [names.get(str(place)) for place in range(size)]
    if len(names) != size or not size or not all(isinstance(name, str) and name for name in listed):
        raise WeightsError(
            f"{where}.channel_def is {'missing' if not found else repr(found)[:60]}",
            expected=f'a name for each of {size or "the"} channels, as {{"0": ...}}',
            path=path,
        )
    if len(set(listed)) != size:
        raise WeightsError(f"{where}.channel_def names two channels alike", expected="different names", path=path)
    return tuple(str(name) for name in listed)


def _facts(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Where the model came from."""
    facts = {name: metadata[name] for name in TEXTS if isinstance(metadata.get(name), str) and metadata[name]}
    scores = metadata.get("eval_metrics")
    return {**facts, **({"scores": dict(scores)} if isinstance(scores, Mapping) and scores else {})}
