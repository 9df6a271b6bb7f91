"""Images to classes: one table, which a second run completes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox.errors import InferenceError, ResvoxError
from resvox.prediction.class_log import TABLE, ClassLog
from resvox.prediction.outcomes import CaseOutcome, PredictResult, one_line

if TYPE_CHECKING:
    import numpy as np

    from resvox.datasets.classification import ImageCase
    from resvox.locks import Claims
    from resvox.prediction.classifier import Classifier
    from resvox.volumes import InputCase, Volume

TABLE_SECONDS = 10.0  # between two writings of the table: what a kill can cost of it, and nothing of the log


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """One image to classify: a file or the row of an ``.npz``, and where it came from in words."""

    id: str
    source: str
    row: ImageCase | None = None
    file: InputCase | None = None

    def read(self, channels: int) -> Volume:
        """The image.

        Raises:
            VolumeError, DatasetError: it cannot be read.
        """
        if self.row is not None:
            from resvox.training.classification.cache import read_image

            return read_image(self.row, channels)
        from resvox.volumes import read_case

        assert self.file is not None
        return read_case(self.file)


def predict_classes(
    model: str | os.PathLike[str],
    inputs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    split: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    overwrite: bool = False,
    on_start: Callable[[int], object] | None = None,
    on_case: Callable[[CaseOutcome], object] | None = None,
) -> PredictResult:
    """Write ``out/predictions.csv``: case, predicted class, the probability of each class, file.

    What was predicted before is kept, so the same call again does what is missing; several processes may share a
    folder. An image that cannot be used is an outcome with a reason, not an exception.

    Args:
        inputs: image files, folders of them, CSV manifests with an ``image`` column, ``.npz`` files.
        split: of manifests and ``.npz`` files the cases of "train", "validation" or "test", or "all" of them; None
            takes the test cases where there are some, else all.
        overwrite: do again what is there.
        on_start, on_case: called with the number of images, and with each outcome.

    Raises:
        WeightsError: a model that cannot be used. InferenceError: predictions of another model in ``out``.
    """
    from resvox.locks import Claims
    from resvox.prediction.classifier import Classifier

    out = Path(out)
    classifier = Classifier(model, device=device, precision=precision)
    images = find_images(inputs, classifier.channels, split)
    if on_start is not None:
        on_start(len(images))
    out.mkdir(parents=True, exist_ok=True)
    outcomes: list[CaseOutcome] = []
    order = [image.id for image in images]
    with Claims(out) as claims:
        log = ClassLog(out, classifier, done_since=claims.clock() if overwrite else 0.0)
        written = time.monotonic()
        try:
            for number, chunk in enumerate(_chunks(images, classifier.batch_size)):
                for outcome in _attempt(chunk, f"images-{number}", classifier, claims, log):
                    outcomes.append(outcome)
                    if on_case is not None:
                        on_case(outcome)
                if time.monotonic() - written > TABLE_SECONDS:
                    _write_table(claims, log, order)
                    written = time.monotonic()
        finally:
            _write_table(claims, log, order)
    return PredictResult(cases=tuple(outcomes), out=out)


def find_images(inputs: Sequence[str | os.PathLike[str]], channels: int, split: str | None) -> list[ImageInput]:
    """The images of the inputs, each with a name of its own.

    Raises:
        DatasetError: a manifest or ``.npz`` that cannot be used. InferenceError: two images of one name, or none.
    """
    from resvox.volumes import find_cases

    found: list[ImageInput] = []
    files: list[str | os.PathLike[str]] = []
    for each in inputs:
        if Path(each).suffix.lower() in (".npz", ".csv"):
            found += _listed(Path(each), split)
        else:
            files.append(each)
    found += [
        ImageInput(id=case.id, source=str(case.paths[0]), file=case) for case in find_cases(files, channels=channels)
    ]
    names = [image.id for image in found]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice or not found:
        raise InferenceError(
            f"two images called {twice[0]}" if twice else "no images",
            expected="images, each with a name of its own",
            fix="predict them into two folders" if twice else "",
        )
    return found


def _listed(path: Path, split: str | None) -> Iterator[ImageInput]:
    from resvox.training import read_classification

    cases = read_classification(path).cases
    wanted = split or ("test" if any(case.split == "test" for case in cases) else "all")
    for case in cases:
        if wanted in ("all", case.split):
            where = case.images[0] if case.member is None else f"{case.images[0]}#{case.member[0]}[{case.member[1]}]"
            yield ImageInput(id=case.id, source=str(where), row=case)


def _chunks(images: list[ImageInput], size: int) -> Iterator[list[ImageInput]]:
    # Of all images, done or not: every process that shares the folder means the same by a chunk's number.
    for first in range(0, len(images), size):
        yield images[first : first + size]


def _attempt(
    chunk: list[ImageInput], name: str, classifier: Classifier, claims: Claims, log: ClassLog
) -> list[CaseOutcome]:
    if all(log.is_done(image.id) for image in chunk):
        return [_present(image, log) for image in chunk]
    if not claims.take(name):
        return [CaseOutcome(id=image.id, status="elsewhere", reason=claims.holder(name)) for image in chunk]
    try:
        log.refresh()  # finished by another process between the look and the claim
        return _predict_chunk(chunk, classifier, log)
    finally:
        claims.release(name)


def _predict_chunk(chunk: list[ImageInput], classifier: Classifier, log: ClassLog) -> list[CaseOutcome]:
    outcomes: dict[str, CaseOutcome] = {}
    ready: list[tuple[ImageInput, np.ndarray[Any, Any], dict[str, float]]] = []
    for image in chunk:
        if log.is_done(image.id):
            outcomes[image.id] = _present(image, log)
            continue
        try:
            start = time.perf_counter()
            volume = image.read(classifier.channels)
            read = time.perf_counter()
            array = classifier.prepare(volume)
            seconds = {"read": read - start, "preprocess": time.perf_counter() - read}
            ready.append((image, array, seconds))
        except Exception as error:  # the batch goes on; the error is kept in the outcome and shown
            reason = one_line(error, image.source)
            outcomes[image.id] = CaseOutcome(id=image.id, status="failed", reason=reason, error=error)
    outcomes.update(_answers(ready, classifier, log))
    return [outcomes[image.id] for image in chunk]


def _answers(
    ready: list[tuple[ImageInput, np.ndarray[Any, Any], dict[str, float]]], classifier: Classifier, log: ClassLog
) -> dict[str, CaseOutcome]:
    """The network's answers to prepared images, written to the log before they are told."""
    if not ready:
        return {}
    start = time.perf_counter()
    try:
        table = classifier.probabilities([array for _, array, _ in ready])
    except ResvoxError as error:
        return {
            image.id: CaseOutcome(id=image.id, status="failed", reason=one_line(error, image.source), error=error)
            for image, _, _ in ready
        }
    share = (time.perf_counter() - start) / len(ready)
    lines, outcomes = [], {}
    for (image, _, seconds), row in zip(ready, table, strict=True):
        chances = {name: float(chance) for name, chance in zip(classifier.classes, row, strict=True)}
        best = classifier.classes[int(row.argmax())]
        spent = {**seconds, "network": share}
        lines.append(
            {
                "case": image.id,
                "status": "written",
                "file": TABLE,
                "predicted": best,
                "probabilities": chances,
                "inputs": [image.source],
                "seconds": {stage: round(value, 4) for stage, value in spent.items()},
            }
        )
        answer = f"{image.id}: {best} ({chances[best]:.3f})"
        outcomes[image.id] = CaseOutcome(id=image.id, status="written", path=log.table, answer=answer, seconds=spent)
    log.add(lines)
    return outcomes


def _present(image: ImageInput, log: ClassLog) -> CaseOutcome:
    return CaseOutcome(id=image.id, status="present", path=log.table)


def _write_table(claims: Claims, log: ClassLog, order: list[str]) -> None:
    """One process at a time: who writes last has read all that was added before."""
    deadline = time.monotonic() + TABLE_SECONDS
    taken = claims.take(TABLE)
    while not taken and time.monotonic() < deadline:
        time.sleep(0.05)
        taken = claims.take(TABLE)
    try:
        log.write_table(order)
    finally:
        if taken:
            claims.release(TABLE)
