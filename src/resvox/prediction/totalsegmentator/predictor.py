"""A task of TotalSegmentator as a predictor, and as the model file that stands for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from resvox.cards import SegmentationCard
from resvox.errors import InferenceError
from resvox.prediction.label_maps import LabelMaps, Segmentation
from resvox.prediction.nnunet.files import nnunet_files
from resvox.prediction.predictor import Progress, check_scan
from resvox.prediction.segmenter import Segmenter
from resvox.prediction.tasks import TOTALSEGMENTATOR, refuse_unused
from resvox.prediction.totalsegmentator.chain import Account, Chain, Part
from resvox.prediction.totalsegmentator.choices import USUAL
from resvox.prediction.totalsegmentator.table import (
    CropRule,
    PartModel,
    TotalTask,
    codes_of,
    task_of,
)
from resvox.prediction.totalsegmentator.weights import model_folders, results_folder
from resvox.volumes import Volume

if TYPE_CHECKING:
    from resvox.delivery.naming import Algorithm
    from resvox.prediction.model_files import ModelFile
    from resvox.prediction.options import PredictOptions
    from resvox.prediction.totalsegmentator.geometry import Canonical
    from resvox.volumes import Grid


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A scan, and what the first models see of it; without the scan itself where only its grid is needed."""

    volume: Volume
    first: Canonical


class TotalSegmenter(LabelMaps):
    """A task of TotalSegmentator; a `Predictor`. All its models are loaded once and stay for all scans.

    Args:
        model: the options, whose ``model`` is the name of a task and whose ``total`` chooses the run.
        notify: called with a line of text where an engine is given up or memory runs out.

    Raises:
        WeightsError: weights that are not there, or cannot be used.
        InferenceError: an engine, device or option that cannot be.
    """

    def __init__(self, model: PredictOptions, *, notify: Callable[[str], object] | None = None) -> None:
        self.options = model
        refuse_unused(model, "segmentation", TOTALSEGMENTATOR)
        if model.mirror:
            raise InferenceError(
                "mirroring, with a task of TotalSegmentator",
                expected="none: its models are used without",
                fix="leave --mirror out",
            )
        self.task, choices = task_of(str(model.models[0])), model.total
        self.card = cast(SegmentationCard, total_file(model).card)
        self.chain = _Builder(model, notify).chain(self.task, choices.run, choices.roi_subset)
        self.paths = tuple(path for part in self.chain.all_parts for path in part.segmenter.paths)
        self.engine = self.chain.parts[0].segmenter.engine

    def settings(self) -> dict[str, Any]:
        """What changes a label map."""
        choices, steps = self.options.total, [part.segmenter.settings() for part in self.chain.all_parts]
        return {
            "task": self.task.name,
            "run": choices.run,
            "roi_subset": None if choices.roi_subset is None else sorted(choices.roi_subset),
            "robust_crop": choices.robust_crop,
            "resampling_order": choices.resampling_order,
            "overlap": [each["overlap"] for each in steps],
            "resample": self.options.resample,
            "speed": self.options.speed,
            "skip_empty": self.options.skip_empty,
            **({"exact": True} if self.options.exact else {}),
        }

    def begin(self, cases: int) -> None:
        """A batch begins: each model measures the speed on its first scan."""
        for part in self.chain.all_parts:
            part.segmenter.begin(cases)

    def prepare(self, volume: Volume) -> Ready:
        """What the first models see of a scan.

        Raises:
            InferenceError: another number of dimensions or channels than the models'.
        """
        check_scan(volume, self.card)
        first = self.chain.prepare(volume)
        return Ready(volume=volume if self.chain.crop else _only_grid(volume.grid), first=first)

    def compute(self, ready: Sequence[Ready], *, progress: Progress | None = None) -> list[Segmentation]:
        """Compute the label maps of prepared scans."""
        return [self._computed(each, progress) for each in ready]

    def segment(self, volume: Volume, *, progress: Progress | None = None) -> Segmentation:
        """The label map of a scan, on exactly the scan's grid."""
        return self._computed(self.prepare(volume), progress)

    def _computed(self, ready: Ready, progress: Progress | None) -> Segmentation:
        account = Account(models=self.chain.models, progress=progress)
        labels = self.chain.labels(ready.volume, ready.first, account)
        subset = self.options.total.roi_subset
        if subset is not None:
            keep = np.zeros(int(labels.max()) + 1, np.uint8)
            wanted = [self.task.labels[name] for name in subset if self.task.labels[name] < len(keep)]
            keep[wanted] = wanted
            labels = keep[labels]
        return Segmentation(
            label_map=Volume.on_grid(labels, ready.volume.grid),
            probabilities=None,
            seconds={stage: round(spent, 4) for stage, spent in account.seconds.items()},
            windows=account.windows,
            skipped=account.skipped,
        )

    @cached_property
    def _algorithm(self) -> Algorithm:
        """The task and a digest of all its weights, as DICOM objects name the algorithm."""
        import hashlib

        from resvox.delivery.naming import Algorithm
        from resvox.files import sha256_of

        digest = hashlib.sha256("".join(sha256_of(path) for path in self.paths).encode()).hexdigest()
        return Algorithm(name=f"TotalSegmentator {self.task.name}", identifier=digest[:32])


class _Builder:
    """Chains of models; a model that two of them use is loaded once."""

    def __init__(self, options: PredictOptions, notify: Callable[[str], object] | None) -> None:
        self.options, self.notify = options, notify
        self.results = results_folder(options.total.weights_folder)
        self.loaded: dict[tuple[Path, float], Segmenter] = {}

    def chain(self, task: TotalTask, run_name: str, subset: Sequence[str] | None = None) -> Chain:
        run = task.run(run_name)
        models = models_of(task, run_name, subset)
        folders = model_folders(self.results, task.name, run, models)
        rule = self._rule(task, run_name, subset)
        # the rough run first: its weights may be missing, too
        crop = None if rule is None else (self.chain(task_of(rule.task), rule.run), rule)
        overlap = round(1 - run.step, 12) if self.options.overlap is None else self.options.overlap
        parts = [
            Part(segmenter=self._segmenter(folder, run.folds, overlap), values=_values(task, model))
            for folder, model in zip(folders, models, strict=True)
        ]
        return Chain(
            run=run,
            parts=tuple(parts),
            values=task.labels,
            order=self.options.total.resampling_order,
            crop=crop,
        )

    def _rule(self, task: TotalTask, run_name: str, subset: Sequence[str] | None) -> CropRule | None:
        rule = task.run(run_name).crop
        if rule is None and subset is not None and task.subset_crop is not None:
            rule = replace(task.subset_crop, labels=tuple(subset))
        if rule is not None and rule.run == "fastest" and self.options.total.robust_crop:
            return replace(rule, run="fast")
        return rule

    def _segmenter(self, folder: Path, folds: tuple[str, ...] | None, overlap: float) -> Segmenter:
        if (folder, overlap) not in self.loaded:
            options = replace(
                self.options,
                model=folder,
                folds=folds,
                overlap=overlap,
                mirror=False,
                postprocess=False,
                total=USUAL,
                dicom=None,
                format="nii.gz",
            )
            self.loaded[folder, overlap] = Segmenter(options, notify=self.notify)
        return self.loaded[folder, overlap]


def models_of(task: TotalTask, run_name: str, subset: Sequence[str] | None) -> tuple[PartModel, ...]:
    """The models that give the labels of a subset; all of them without one.

    Raises:
        InferenceError: names that are no labels, or a run that the task does not have.
    """
    models = task.run(run_name).models
    if subset is None:
        return models
    task.check_labels(subset)
    return tuple(each for each in models if set(each.labels) & set(subset))


def total_file(options: PredictOptions) -> ModelFile:
    """The model file that stands for a task: the first of its checkpoints, with a card of the task's labels.

    Raises:
        WeightsError: weights that are not there.
        InferenceError: a run or a label that the task does not have.
    """
    task, choices = task_of(str(options.models[0])), options.total
    run = task.run(choices.run)
    models = models_of(task, choices.run, choices.roi_subset)
    folder = model_folders(results_folder(choices.weights_folder), task.name, run, models)[0]
    first = nnunet_files(folder, run.folds, options.checkpoint)[0]
    assert isinstance(first.card, SegmentationCard)
    labels = {
        name: value for name, value in task.labels.items() if choices.roi_subset is None or name in choices.roi_subset
    }
    card = replace(
        first.card,
        labels={"background": 0, **labels},
        codes=codes_of(tuple(labels)),
        regions=None,
        ignore=None,
        largest=None,
        postprocessing=None,
        training={"library": "TotalSegmentator", "task": task.name, "run": choices.run},
    )
    return replace(first, format=TOTALSEGMENTATOR, card=card, metadata=card.to_dict())


def _values(task: TotalTask, model: PartModel) -> np.ndarray:
    return np.asarray([0, *(task.labels[name] for name in model.labels)], np.uint8)


def _only_grid(grid: Grid) -> Volume:
    """A volume that takes no memory, for its grid."""
    return Volume.on_grid(np.broadcast_to(np.uint8(0), grid.shape), grid)
