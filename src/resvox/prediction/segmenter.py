"""One model, ready to turn scans into label maps on their own grids."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from resvox.cards import SegmentationCard
from resvox.errors import InferenceError
from resvox.prediction.bundle.outputs import check_options, cleaned, decision_of, finish_whole, labels_first, labels_of
from resvox.prediction.device.of_model import model_on_device
from resvox.prediction.label_maps import LabelMaps, Segmentation, check_label_options
from resvox.prediction.model_engine import describe, engine_of, late_head, takes_batches
from resvox.prediction.model_files import ModelFile, check_task, chosen_files, model_file
from resvox.prediction.nnunet.choices import chosen_preprocessing, engine_options
from resvox.prediction.nnunet.files import first_stage_of
from resvox.prediction.nnunet.stages import with_first_stage
from resvox.prediction.nnunet.whole import Made, exact_logits, finish, outside_of, whole_logits
from resvox.prediction.options import Choices, Paths, PredictOptions, options_of
from resvox.prediction.pipeline import timed_call
from resvox.prediction.postprocessing.of_model import is_postprocessed, postprocessed
from resvox.prediction.predictor import (
    Progress,
    check_mirroring,
    check_scan,
    mirror_axes_of,
    overlap_of,
    stream,
)
from resvox.prediction.speed.of_model import speed_control
from resvox.prediction.tasks import refuse_unused
from resvox.prediction.uncertainty.certainty import certainty_of
from resvox.preprocessing import NnunetPreprocessing

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from resvox.inference import FinishedSlice, WindowCount
    from resvox.inference.engines.agreement import Agreement
    from resvox.inference.uncertainty.doubt import DoubtMaps
    from resvox.preprocessing import Prepared
    from resvox.volumes import Volume

__all__ = ["Segmentation", "Segmenter", "model_file"]


class Segmenter(LabelMaps):
    """A model for segmentation: preprocessing, windows, labels; a `Predictor`.

    Args:
        model: a ``model.safetensors``, the folder of a training run that holds one, an exported network, or several
            of these (a sequence, or a folder of runs), whose logits are averaged; or all options at once.
        notify: called with a line of text where an engine is given up or memory runs out.
        choices: mirror, overlap, engine, device, precision, resample, speed, skip_empty, memory_gb, region_masks: see
            :class:`resvox.prediction.options.PredictOptions`.

    Raises:
        WeightsError: no model there, a damaged one, or one without preprocessing and labels.
        InferenceError: an engine, device or option that cannot be.
    """

    batch_size = 1

    def __init__(
        self,
        model: Paths | PredictOptions,
        *,
        notify: Callable[[str], object] | None = None,
        **choices: Unpack[Choices],
    ) -> None:
        self.options = options_of(model, **choices)
        files = chosen_files(self.options)
        check_task(files[0], "segmentation")
        refuse_unused(self.options, "segmentation")
        self.card = cast(SegmentationCard, files[0].card)
        self.paths = tuple(each.path for each in files)
        self.path, self.metadata = files[0].path, files[0].metadata
        check_mirroring(self.card.inference, self.options, self.path)
        self.preprocessing = chosen_preprocessing(files[0], self.options)
        # Folds have a head each, and of a window that is passed over no features are known.
        has_late_head = len(files) == 1 and not self.options.skip_empty and self.card.regions is None
        self._head = late_head(files[0]) if has_late_head else None
        self._check_regions()
        check_options(self.card, self.options, self.path)
        check_label_options(self.card, self.options, self.path)
        options = engine_options(self.options)
        self.certainty = certainty_of(files, self.card, self.options, notify)
        self.engine = engine_of(
            files,
            options,
            agreement=self._agreement(),
            head=self._head,
            notify=notify,
            together=self.certainty.engine,
        )
        self._first = self._first_stage(files[0], notify)
        values, self._batches = list(self._values().values()), takes_batches(files)
        self._device = model_on_device(
            self.engine, self.card, self.options, values, self._head, batches=self._batches, notify=notify
        )
        self._speed = speed_control(self.options, files, self._head, notify=notify)

    def _check_regions(self) -> None:
        if self.options.region_masks and self.card.regions is None:
            raise InferenceError(
                "region_masks=True with a model for labels, of which each voxel has one",
                expected="a model that was trained with regions",
                fix="leave --region-masks out",
                path=self.path,
            )

    def _agreement(self) -> Agreement | None:
        """The measure of the accuracy guard: the label map that is written."""
        if self.card.class_order is None:
            return None
        from resvox.inference.engines.agreement import LabelAgreement, region_labels

        return LabelAgreement(region_labels(self.card.class_order, decision_of(self.card)))

    @property
    def channels(self) -> int:
        """How many channels a scan has."""
        return self.card.in_channels

    @property
    def roi_size(self) -> tuple[int, ...]:
        """The window in voxels."""
        return self.card.input_size

    @property
    def mirror_axes(self) -> tuple[int, ...]:
        """The axes that are mirrored."""
        return mirror_axes_of(self.card.inference, self.options)

    @property
    def engine_words(self) -> str:
        """The engine in use, such as ``openvino, bfloat16, cpu``."""
        return describe(self.engine)

    def segment(self, volume: Volume, *, probabilities: bool = False, progress: Progress | None = None) -> Segmentation:
        """The label map of a scan, (*spatial) with the model's label values, on exactly the scan's grid.

        Args:
            volume: (*spatial) or (channels, *spatial), of the model's number of dimensions and channels.
            probabilities: also return (classes, *spatial) float32; of a model for regions (regions, *spatial).
            progress: called as ``progress(windows done, windows)``.

        Raises:
            InferenceError: another number of dimensions or channels than the model's; probabilities with options that
                they cannot be combined with.
        """
        seconds: dict[str, float] = {}
        prepared = timed_call(seconds, "preprocess", self.prepare, volume)
        made = self.segment_prepared(prepared, probabilities=probabilities, progress=progress)
        return replace(made, seconds={**seconds, **made.seconds})

    def prepare(self, volume: Volume) -> Prepared:
        """What the network sees of a scan.

        Raises:
            InferenceError: another number of dimensions or channels than the model's.
        """
        check_scan(volume, self.card)
        prepared = self.preprocessing.apply(volume)
        if self._first is None or self.card.cascade is None:
            return prepared
        first = self._first.segment(volume).label_map
        return with_first_stage(prepared, volume, first, self.card.cascade.labels)

    def segment_prepared(
        self, prepared: Prepared, *, probabilities: bool = False, progress: Progress | None = None
    ) -> Segmentation:
        """The rest of `segment`: network and the way back, slice by slice; never all logits at once."""
        from resvox.inference import WindowCount

        if probabilities and not self.options.probabilities:  # of this call alone
            check_label_options(self.card, replace(self.options, probabilities=True), self.path)
        count, start = WindowCount(), time.perf_counter()
        if self.options.exact:
            logits = exact_logits(prepared, self.engine, self.card, self.options, count=count, progress=progress)
            network = time.perf_counter() - start
            masks = self.options.region_masks
            made = finish(prepared, logits, self.card, probabilities=probabilities, masks=masks)
            return self._segmentation(made, network, start, count)
        if self._device is not None and not probabilities:
            kept = self._device.labels(prepared, count=count, progress=progress)
            if kept is not None:
                label_map, network = kept
                return self._segmentation((label_map, None, None), network, start, count)
        is_first, doubt = self._speed.verdict is None, self.certainty.maps(prepared)
        run = partial(
            stream,
            prepared,
            self.engine,
            self.card.inference,
            self.options,
            progress=progress,
            batches=self._batches,
            independent=self.card.regions is not None,
        )
        compute = partial(self._from_slices, prepared, start=start, probabilities=probabilities, doubt=doubt)
        found = compute(self._speed.slices(run, count), count)
        expected, goes_back = self._speed.expected, self._speed.goes_back()
        if goes_back:
            again = WindowCount()
            found = compute(run(count=again), again)
            count.computed += again.computed
        return replace(found, log=self._speed.record(count, is_first=is_first, expected=expected, went_back=goes_back))

    def _from_slices(
        self,
        prepared: Prepared,
        slices: Iterator[FinishedSlice],
        count: WindowCount,
        *,
        start: float,
        probabilities: bool,
        doubt: DoubtMaps | None,
    ) -> Segmentation:
        masks = self.options.region_masks
        first = self.options.resample == "labels" or labels_first(self.card)
        if first and not probabilities and not masks and doubt is None:
            watch = _Watch()
            made: Made = self._labels_first(prepared, watch.passed_on(slices)), None, None
            network = watch.seconds
        else:
            label_map, likely, own, restoring = self._restored(
                prepared, slices, probabilities=probabilities, doubt=doubt
            )
            made = label_map, likely, own
            network = time.perf_counter() - start - restoring
        return with_doubt(self._segmentation(made, network, start, count), doubt)

    def _segmentation(self, made: Made, network: float, start: float, count: WindowCount) -> Segmentation:
        label_map, likely, masks = made
        label_map = label_map.with_array(cleaned(label_map.array, self.card, on_scan=True))
        label_map = postprocessed(label_map, self.card, self.options)
        seconds = {"network": round(network, 4), "restore": round(time.perf_counter() - start - network, 4)}
        return Segmentation(
            label_map=label_map,
            probabilities=likely,
            seconds=seconds,
            windows=count.windows,
            skipped=count.empty + count.repeated,
            region_masks=masks,
        )

    def _restored(
        self,
        prepared: Prepared,
        slices: Iterator[FinishedSlice],
        *,
        probabilities: bool,
        doubt: DoubtMaps | None = None,
    ) -> tuple[Volume, Volume | None, Volume | None, float]:
        """Label map, probabilities and masks on the scan's grid, and the seconds that bringing them there took."""
        from resvox.inference import RegionRestorer, Restorer, can_restore
        from resvox.inference.boxes import is_linear
        from resvox.machine import usable_threads

        by_nnunet, masks = isinstance(self.preprocessing, NnunetPreprocessing), self.options.region_masks
        temperature = self.certainty.of_probabilities
        if not (can_restore(prepared) and is_linear(prepared)):
            self._refuse_certainty()
            logits, start = whole_logits(prepared, slices), time.perf_counter()
            if by_nnunet:
                made = finish(prepared, logits, self.card, probabilities=probabilities, masks=masks)
            else:
                values = list(self._values().values())
                made = finish_whole(prepared, logits, self.card, values, probabilities=probabilities, masks=masks)
            return *made, time.perf_counter() - start
        threads, decision = usable_threads(), decision_of(self.card)
        if self.card.class_order is not None:
            of_regions = RegionRestorer(
                prepared,
                class_order=self.card.class_order,
                soften_last=by_nnunet,
                decision=decision,
                probabilities=probabilities,
                masks=masks,
                threads=threads,
                temperature=temperature,
                doubt=doubt,
            )
            return *of_regions.restore(slices), of_regions.seconds
        restorer = Restorer(
            prepared,
            values=self._values(),
            head=self._head,
            outside=outside_of(self.card) if by_nnunet else None,
            soften_last=by_nnunet,
            decision=decision,
            probabilities=probabilities,
            threads=threads,
            temperature=temperature,
            doubt=doubt,
        )
        return *restorer.restore(slices), None, restorer.seconds

    def _refuse_certainty(self) -> None:
        if self.options.uncertainty or self.options.calibrated:
            raise InferenceError(
                "uncertainty or calibrated probabilities with a model whose logits are resampled by splines",
                expected="linear resampling on the way back",
                fix="leave --uncertainty and --calibrated out",
                path=self.path,
            )

    def _first_stage(self, file: ModelFile, notify: Callable[[str], object] | None) -> Segmenter | None:
        """The first stage of a cascade, with the same options."""
        if self.card.cascade is None:
            return None
        path = first_stage_of(file, self.card.cascade.model)
        options = replace(
            self.options,
            model=path,
            probabilities=False,
            region_masks=False,
            postprocess=False,
            uncertainty=False,
            calibrated=False,
        )
        return Segmenter(options, notify=notify)

    def _labels_first(self, prepared: Prepared, slices: Iterator[FinishedSlice]) -> Volume:
        """Labels on the network's grid, and those brought to the scan's."""
        from resvox.inference import restore_labels_first

        of = labels_of(self.card, list(self._values().values()))
        clean = partial(cleaned, card=self.card, on_scan=False)
        return restore_labels_first(prepared, slices, of, self._head, clean=clean)

    def _values(self) -> dict[int, int]:
        """The label value of every class; of a single class, of its absence and its presence."""
        values = list(self.labels.values())
        return dict(enumerate(values if len(values) > 1 else [0, *values]))

    # ------------------------------------------------------------------------------------------ in a batch

    def settings(self) -> dict[str, Any]:
        """What changes a label map or its probabilities; without those of `USUAL_SETTINGS` that are at their values."""
        is_calibrated = self.options.calibrated and self.options.probabilities
        return {
            "mirror_axes": list(self.mirror_axes),
            "overlap": overlap_of(self.card.inference, self.options),
            "resample": self.options.resample,
            "speed": self.options.speed,
            "skip_empty": self.options.skip_empty,
            **({"exact": True} if self.options.exact else {}),
            **({"postprocess": True} if is_postprocessed(self.card, self.options) else {}),
            **({} if self.options.orientation is None else {"orientation": self.options.orientation}),
            **({"calibrated": True} if is_calibrated else {}),
        }

    def begin(self, cases: int) -> None:
        """A batch begins: the speed is measured on its first scan."""
        self._speed.begin(cases)
        if self._first is not None:
            self._first.begin(cases)

    def compute(self, ready: Sequence[Prepared], *, progress: Progress | None = None) -> list[Segmentation]:
        """Compute the label maps of prepared scans."""
        wanted = self.options.probabilities
        return [self.segment_prepared(each, probabilities=wanted, progress=progress) for each in ready]


def with_doubt(made: Segmentation, doubt: DoubtMaps | None) -> Segmentation:
    """A segmentation with its maps and scores of doubt, where there are any."""
    if doubt is None:
        return made
    uncertainty, disagreement = doubt.volumes()
    return replace(made, uncertainty=uncertainty, disagreement=disagreement, doubt=doubt.scores)


@dataclass
class _Watch:
    """Seconds that an iterator took to give its items."""

    seconds: float = field(default=0.0)

    def passed_on(self, items: Iterator[FinishedSlice]) -> Iterator[FinishedSlice]:
        while True:
            start = time.perf_counter()
            item = next(items, None)
            self.seconds += time.perf_counter() - start
            if item is None:
                return
            yield item
