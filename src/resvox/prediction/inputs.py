"""What a batch is to do: which cases the inputs mean, under which names; and the calls that make no sense."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resvox.errors import DatasetError, InferenceError, WeightsError
from resvox.locks import Claims
from resvox.prediction.cases import Case, Found, Work
from resvox.prediction.log import RunLog
from resvox.prediction.model_engine import begin_fingerprints
from resvox.prediction.model_files import chosen_files, is_total_task, looks_like_model
from resvox.prediction.options import Callbacks, PredictOptions
from resvox.prediction.tasks import refuse_unused, row_of

if TYPE_CHECKING:
    from resvox.cards import ModelCard
    from resvox.volumes import Volume

LISTS = (".npz", ".csv")  # files that list images
OTHER_FILES = (".csv", ".json", ".jsonl", ".npz", ".zip", ".txt")  # endings that no folder of results has


def find_work(options: PredictOptions, callbacks: Callbacks) -> Work:
    """The cases of a batch; no network is loaded.

    Raises:
        WeightsError: a model that cannot be used. InferenceError: an option that cannot be.
    """
    check_out(options.out)
    _check_order(options)
    files = chosen_files(options)
    file = files[0]
    card = file.card
    refuse_unused(options, card.task, file.format)
    found = row_of(card.task).predictor_class(file.format).find(options, card, RunLog(options.out))
    if found.cases:
        begin_fingerprints(files, options)
    for text in found.notes:
        callbacks.note(text)
    if not options.overwrite:
        return Work(cases=found.cases)
    return Work(cases=found.cases, since=Claims(options.out).clock())


def check_out(out: Path) -> None:
    """Refuse a file as the folder of results.

    Raises:
        InferenceError: with the folder that may be meant.
    """
    from resvox.volumes.formats import ending_of

    is_file = out.is_file() or bool(ending_of(out)) or out.suffix.lower() in OTHER_FILES
    if is_file and not out.is_dir():
        folder = out.parent if out.parent != Path() else Path("out")
        raise InferenceError(
            f"-o {out}, which is a file" + ("" if out.is_file() else " by its name"),
            expected="a folder: results are named like their scans",
            fix=f"-o {folder}",
        )


def _check_order(options: PredictOptions) -> None:
    """Refuse a model and scans that were given in the wrong order."""
    from resvox.volumes.formats import ending_of

    if is_total_task(options.model):
        return

    def is_model(path: Path) -> bool:
        return looks_like_model(path) or (is_total_task(path) and not path.exists())

    for model in map(Path, options.models):
        is_scan = ending_of(model) != "" or (model.is_dir() and not looks_like_model(model))
        models = [path for path in map(Path, options.input_paths) if is_model(path)]
        if is_scan and models:
            raise WeightsError(
                f"not a model, but {models[0]} among the inputs is one",
                expected="the model first, then the scans",
                fix=f"resvox predict {models[0]} {model} -o {options.out}",
                path=model,
            )


def find_scans(options: PredictOptions, card: ModelCard, log: RunLog) -> Found:
    """The scans of the inputs.

    What an earlier run wrote into the output folder is no input, and a scan keeps the name that it had then.
    """
    return _scans(options.input_paths, options, card, log, absolute=True)


def find_images(options: PredictOptions, card: ModelCard, log: RunLog) -> Found:
    """The images of files, folders, manifests and ``.npz`` files.

    Raises:
        DatasetError: a manifest or ``.npz`` that cannot be used. InferenceError: no images.
    """
    listed: list[Case] = []
    files: list[str | os.PathLike[str]] = []
    for each in options.input_paths:
        if Path(each).suffix.lower() in LISTS:
            listed += _listed(Path(each), options.split)
        else:
            files.append(each)
    found = _scans(files, options, card, log, absolute=False)
    cases = (*listed, *found.cases)
    if not cases:
        raise InferenceError("no images", expected="image files, folders of them, a manifest or an .npz file")
    return Found(cases=cases, notes=found.notes)


def read_scan(case: Case) -> Volume:
    """The channels of a scan as one volume.

    Raises:
        VolumeError: it cannot be read.
    """
    from resvox.volumes import read_case

    return read_case(case.item)


def read_labelled_image(case: Case, channels: int) -> Volume:
    """The image of a file, or of a row of a manifest or ``.npz``.

    Raises:
        VolumeError, DatasetError: it cannot be read.
    """
    from resvox.datasets.classification import ImageCase

    if not isinstance(case.item, ImageCase):
        return read_scan(case)
    from resvox.datasets.labelled import read_image

    return read_image(case.item, channels)


def _scans(
    paths: Sequence[str | os.PathLike[str]],
    options: PredictOptions,
    card: ModelCard,
    log: RunLog,
    *,
    absolute: bool,
) -> Found:
    from resvox.volumes import find_cases
    from resvox.volumes.reading import is_flat_picture

    out, is_written = options.out.resolve(), log.products()
    left_out: list[str] = []

    def is_product(path: Path) -> bool:
        found = is_written(path.name) and path.parent.resolve() == out
        if found:
            left_out.append(path.name)
        return found

    # A folder of predictions that is named itself is meant as an input, but for what this folder's log lists.
    named = [Path(path).resolve() for path in paths]
    is_inside = not any(out == path or out in path.parents for path in named)
    found = find_cases(
        paths,
        channels=card.in_channels,
        series=options.series,
        leave_out=out if is_inside else None,
        skip=is_product,
        names=log.names_of_inputs(),
    )
    from resvox.volumes.tiff import files_beside

    cases = tuple(
        Case(
            id=each.id,
            inputs=tuple(str(Path(path).resolve() if absolute else path) for path in each.paths),
            files=(*each.paths, *files_beside(each.paths[0])),
            item=each,
            series=options.series,
            is_picture=is_flat_picture(each.paths[0]),
        )
        for each in found
    )
    return Found(cases=cases, notes=_note_on(left_out, out))


def _note_on(left_out: Sequence[str], out: Path) -> tuple[str, ...]:
    if not left_out:
        return ()
    files = f"{len(left_out)} file{'s' if len(left_out) > 1 else ''}"
    return (f"{files} in {out} that an earlier run wrote there left out, such as {left_out[0]}",)


def _listed(path: Path, split: str | None) -> Iterator[Case]:
    from resvox.training import read_classification

    cases = read_classification(path).cases
    wanted = split or ("test" if any(case.split == "test" for case in cases) else "all")
    kept = [case for case in cases if wanted in ("all", case.split)]
    if not kept:
        raise DatasetError(f"no cases of split {wanted!r}", expected="at least one", path=path)
    for case in kept:
        where = case.images[0] if case.member is None else f"{case.images[0]}#{case.member[0]}[{case.member[1]}]"
        yield Case(id=case.id, inputs=(str(where),), files=case.images, item=case)
