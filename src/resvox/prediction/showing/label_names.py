"""The names of a label map's values, from what lies beside it or from the model that made it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resvox.errors import VolumeError, WeightsError

LOG = "predict.jsonl"  # written by `predict` beside its label maps; names the model


@dataclass(frozen=True, kw_only=True)
class LabelNames:
    """What names the labels of a label map; all empty where nothing does.

    Args:
        labels: ``{name: value}``.
        colours: ``{name: "#rrggbb"}``.
        codes: ``{name: {"type": {...}, ...}}``, coded structures for DICOM.
        model: the model that made it, if that is known.
    """

    labels: Mapping[str, int] = field(default_factory=dict)
    colours: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    model: Path | None = None


def find_names(names: Mapping[str, int] | str | os.PathLike[str] | None, maps: Sequence[Path]) -> LabelNames:
    """The names of the labels of label maps.

    Args:
        names: ``{name: value}``, or a file that holds them, see `names_in`; None looks beside the label maps: the
            ``.json`` of the same name, the model that `predict` noted in its log, a ``dataset.json`` there or one
            folder above.

    Raises:
        VolumeError, WeightsError: see `names_in`.
    """
    if isinstance(names, Mapping):
        return LabelNames(labels=dict(names))
    if names is not None:
        return names_in(Path(names))
    for path in maps:
        for source in _sources_beside(path):
            return names_in(source)
    return LabelNames()


def _sources_beside(label_map: Path) -> list[Path]:
    """What may name the labels of a map, the nearest first; only what exists."""
    from resvox.volumes.formats import stem_of

    folder = label_map.resolve().parent
    beside = [folder / f"{stem_of(label_map)}.json"]
    described = [folder / "dataset.json", folder.parent / "dataset.json"]
    return [path for path in (*beside, *_model_of(label_map), *described) if path.is_file()]


def _model_of(label_map: Path) -> list[Path]:
    """The model that `predict` noted for a label map, if its log is there."""
    log = label_map.resolve().parent / LOG
    found: list[Path] = []
    if not log.is_file():
        return found
    for text in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
            if line["file"] == label_map.name:
                found = [Path(line["model"]["path"])]
        except (ValueError, TypeError, KeyError):
            continue  # a line that was cut off, or of another kind
    return found


def names_in(path: Path) -> LabelNames:
    """The label names and colours that a ``dataset.json``, a sidecar ``.json``, a model file or a run folder holds.

    Raises:
        VolumeError: a JSON file without labels. WeightsError: a model without labels.
    """
    if path.suffix.lower() == ".json":
        try:
            described = json.loads(path.read_text(encoding="utf-8"))
            return LabelNames(
                labels=_by_name(described["labels"]),
                colours=dict(described.get("colours", {})),
                codes=dict(described.get("codes", {})),
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise VolumeError(
                f"no labels in it ({type(error).__name__}: {error})",
                expected='"labels": {"background": 0, "liver": 1}',
                path=path,
            ) from error
    from resvox.prediction.model_files import model_file
    from resvox.weights import read_header

    file = model_file(path)
    metadata = read_header(file).metadata
    if "labels" not in metadata:
        raise WeightsError("a model without labels", expected="a segmentation made by resvox train", path=path)
    return LabelNames(
        labels=dict(metadata["labels"]),
        colours=dict(metadata.get("colours", {})),
        codes=dict(metadata.get("codes", {})),
        model=file,
    )


def _by_name(labels: Mapping[str, Any]) -> dict[str, int]:
    if all(str(name).isdigit() for name in labels):  # MSD writes {"1": "liver"}
        labels = {str(name): value for value, name in labels.items()}
    return {str(name): int(value) for name, value in labels.items()}
