"""`predict`: label maps, values or classes for scans, by what the model is for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from resvox.errors import InferenceError
from resvox.fleet.options import FleetOptions
from resvox.prediction.options import DEFAULTS, Callbacks, Paths, PredictOptions
from resvox.prediction.outcomes import CaseOutcome, PredictResult
from resvox.prediction.totalsegmentator.choices import TotalChoices

if TYPE_CHECKING:
    from resvox.fleet.items import Item


def predict(
    model: Paths | None = None,
    inputs: Paths | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    options: PredictOptions | None = None,
    fleet: FleetOptions | None = None,
    mirror: bool | None = DEFAULTS.mirror,
    overlap: float | None = DEFAULTS.overlap,
    engine: str = DEFAULTS.engine,
    device: str = DEFAULTS.device,
    precision: str = DEFAULTS.precision,
    resample: str = DEFAULTS.resample,
    speed: str = DEFAULTS.speed,
    skip_empty: bool = DEFAULTS.skip_empty,
    memory_gb: float = DEFAULTS.memory_gb,
    series: str | None = DEFAULTS.series,
    processes: int = DEFAULTS.processes,
    probabilities: bool = DEFAULTS.probabilities,
    uncertainty: bool = DEFAULTS.uncertainty,
    calibrated: bool = DEFAULTS.calibrated,
    region_masks: bool = DEFAULTS.region_masks,
    format: str = DEFAULTS.format,
    dicom: str | None = DEFAULTS.dicom,
    sidecar: bool = DEFAULTS.sidecar,
    report: bool = DEFAULTS.report,
    overwrite: bool = DEFAULTS.overwrite,
    suffix: str = DEFAULTS.suffix,
    split: str | None = DEFAULTS.split,
    folds: tuple[str, ...] | None = DEFAULTS.folds,
    checkpoint: str = DEFAULTS.checkpoint,
    exact: bool = DEFAULTS.exact,
    orientation: str | None = DEFAULTS.orientation,
    postprocess: bool | None = DEFAULTS.postprocess,
    total: TotalChoices = DEFAULTS.total,
    on_start: Callable[[int], object] | None = None,
    on_windows: Callable[[str, int, int], object] | None = None,
    on_case: Callable[[CaseOutcome], object] | None = None,
    on_note: Callable[[str], object] | None = None,
    on_row: Callable[[Item], object] | None = None,
) -> PredictResult:
    """Write a label map ``out/<case>.nii.gz`` for every input, on the grid of the input; 2D pictures give ``.png``.

    A model for regression writes volumes of values in the same way, one for classification the table
    ``out/predictions.csv``. A result is written at once or not at all, so one that is there is done: a second run does
    what is missing. Several processes may work on one folder; locks keep them from doing a case twice. An input that
    cannot be used is an outcome with a reason, not an exception; the others are done. While one case is in the network,
    the next one is read and the last one is written.

    Args:
        model, inputs, out, and the options: see :class:`resvox.prediction.options.PredictOptions`.
        options: all of them at once, instead of one by one.
        fleet: for addresses (``s3://`` and others) and manifests of them: parts, scratch, a cluster. The result is then
            a :class:`resvox.fleet.result.FleetResult`, with sums instead of a list of all cases.
        on_start, on_windows, on_case, on_note: see :class:`resvox.prediction.options.Callbacks`.
        on_row: of addresses, called with each row of the manifest that is over.

    Returns:
        The outcomes. One line of JSON per case (stage times, model, versions) is added to ``out/predict.jsonl``.

    Raises:
        WeightsError: a model that cannot be used. InferenceError: a device or option that cannot be.
    """
    from resvox.fleet.inputs import is_for_fleet
    from resvox.fleet.shards import Shard
    from resvox.hub import local_path
    from resvox.prediction.batch import predict_cases
    from resvox.prediction.inputs import find_work

    named = {"model": model, "inputs": inputs, "out": out}
    typed = PredictOptions(
        model=model or (), inputs=inputs or (), out=Path(out or ""), mirror=mirror, overlap=overlap, engine=engine,
        device=device, precision=precision, resample=resample, speed=speed, skip_empty=skip_empty,
        memory_gb=memory_gb, series=series, processes=processes, probabilities=probabilities,
        uncertainty=uncertainty, calibrated=calibrated,
        region_masks=region_masks, format=format, dicom=dicom, sidecar=sidecar, report=report, overwrite=overwrite,
        suffix=suffix, split=split, folds=folds, checkpoint=checkpoint, exact=exact, orientation=orientation,
        postprocess=postprocess, total=total,
    )  # fmt: skip
    if options is None:
        if None in named.values():
            raise InferenceError("no model, inputs or out", expected="predict(model, inputs, out), or options=")
        options = typed
    else:
        beside = [*(name for name, value in named.items() if value is not None), *typed.changed()]
        if beside:
            raise InferenceError(f"{', '.join(beside)} beside options", expected="one or the other")
    # once for all processes: a revision may move meanwhile
    options = replace(options, model=tuple(local_path(each) for each in options.models))
    callbacks = Callbacks(on_start=on_start, on_windows=on_windows, on_case=on_case, on_note=on_note)
    fleet = fleet or FleetOptions()
    if fleet.cluster is not None or is_for_fleet(options.input_paths, options.out):
        return predict_addresses(options, fleet, callbacks, on_row=on_row)
    work = find_work(options, callbacks)
    if fleet.shard is not None:
        part = Shard.parse(fleet.shard)
        work = replace(work, cases=tuple(case for case in work.cases if part.has(case.id)))
    if options.processes > 1:
        from resvox.prediction.processes import predict_in_processes

        result = predict_in_processes(options, callbacks, work)
    else:
        result = predict_cases(options, callbacks, work)
    if options.uncertainty:
        from resvox.prediction.uncertainty.review import review_of

        review_of(options.out)
    if options.report:
        from resvox.prediction.report import report_of

        report_of(options, result, work.cases, notify=callbacks.note)
    return result


def predict_addresses(
    options: PredictOptions,
    fleet: FleetOptions,
    callbacks: Callbacks,
    *,
    on_row: Callable[[Item], object] | None = None,
) -> PredictResult:
    """Predict scans by their addresses, in this process or on a cluster."""
    from resvox.fleet.run import Watch, predict_rows
    from resvox.prediction.inputs import check_out
    from resvox.storage import is_uri

    if not is_uri(options.out):
        check_out(options.out)
    for name in ("report", "split", "processes"):
        if name in options.changed():
            raise InferenceError(
                f"--{name} with addresses",
                expected="local scans and a local folder for it",
                fix="--cluster ray, or several --shard" if name == "processes" else "leave it out",
            )
    watch = Watch(on_total=callbacks.start, on_item=on_row or (lambda item: None), on_note=callbacks.note)
    if fleet.cluster is not None:
        from resvox.fleet.cluster import predict_on_ray

        return predict_on_ray(options, fleet, watch)
    return predict_rows(options, fleet, callbacks, watch)
