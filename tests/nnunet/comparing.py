"""Our results for a toy model beside those of nnU-Net's own predictor, which `peer_runs` wrote."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nnunet.half_bounds import explained

from resvox.inference import WindowCount
from resvox.prediction.nnunet.whole import exact_logits
from resvox.prediction.segmenter import Segmenter
from resvox.volumes import find_cases, read_case


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What differs for one scan: largest differences of arrays, and voxels with another label."""

    data: float
    logits: float
    labels: int
    probabilities: float
    margin: float  # largest distance of the two best logits, or of a region's logit from 0, where labels differ


def compare(case, folder, *, model=None, exact=True, reference="reference", **options):
    """One `Compared` per scan of a toy case.

    Args:
        case: of `peer_cases`.
        folder: what `peer_runs` wrote for it.
        model: what predicts: by default the case's (last) model folder.
        exact: with nnU-Net's own bits.
        reference: the file of nnU-Net's results: "reference", or "reference32" with its sums in float32.
        options: further options of `Segmenter`.
    """
    stored = np.load(folder / f"{reference}.npz")
    settings = settings_of(case, model=model)
    settings |= {"exact": True} if exact else {"engine": "torch-plain", "precision": "float32"}
    segmenter = Segmenter(model or model_folder(case, folder), **settings | options)
    found = []
    for number, each in enumerate(find_cases(folder / "scans", channels=segmenter.channels)):
        volume = read_case(each)
        prepared = segmenter.prepare(volume)
        made = segmenter.segment_prepared(prepared, probabilities=True)
        wanted = {name: stored[f"{name}{number}"] for name in ("data", "logits", "labels", "probabilities")}
        logits = wanted["logits"]
        if exact:
            logits = exact_logits(
                prepared, segmenter.engine, segmenter.card, segmenter.options, count=WindowCount(), progress=None
            )  # fmt: skip
        labels, likely = made.label_map.array, made.probabilities.array
        wanted["labels"] = wanted["labels"].reshape(labels.shape)  # a picture has no first axis here
        # of readers that turn the axes nnU-Net gives probabilities in the order of the network
        theirs = likely if "Reorient" in case.reader else wanted["probabilities"].reshape(likely.shape)
        other = labels != wanted["labels"]
        found.append(
            Compared(
                data=difference(prepared.array, wanted["data"]),
                logits=difference(logits, wanted["logits"]),
                labels=int(other.sum()),
                probabilities=difference(likely, theirs),
                margin=margin(theirs[:, other], segmenter.card),
            )
        )
    return found


def settings_of(case, *, model=None):
    """The options of `Segmenter` with which nnU-Net's predictor was run."""
    settings = {"mirror": None if case.mirroring else False, "overlap": None if case.step == 0.5 else 1 - case.step}
    return settings | ({"folds": tuple(map(str, case.folds))} if model is None else {})


def margin(likely, card):
    """The largest difference in logits between what nnU-Net chose and the next, for its probabilities (classes, n)."""
    if likely.size == 0:
        return 0.0
    with np.errstate(divide="ignore"):
        logits = np.log(likely)
        if card.regions is not None:
            return float(np.abs(logits - np.log1p(-likely)).min(axis=0).max())
    first, second = np.sort(logits, axis=0)[-2:][::-1]
    return float((first - second).max())


def difference(ours, theirs):
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(np.asarray(ours, np.float64) - theirs).max())


def explain(case, folder):
    """One `Explained` per scan of a toy case: our default results beside nnU-Net's."""
    stored = np.load(folder / "reference.npz")
    settings = settings_of(case)
    for number, each in enumerate(find_cases(folder / "scans", channels=case.channels)):
        given = (stored[f"{name}{number}"] for name in ("labels", "logits"))
        yield explained(model_folder(case, folder), read_case(each), *given, **settings)


def model_folder(case, folder):
    name = case.models()[-1][0]
    return folder / "models" / "Dataset001_Toy" / f"{case.trainer}__nnUNetPlans__{name}"


def main():
    """Print the comparison of all cases, in both modes: ``cd tests; python -m nnunet.comparing TOYS [CASE...]``."""
    import sys
    from pathlib import Path

    from nnunet.peer_cases import CASES

    root, names = Path(sys.argv[1]), sys.argv[2:]
    for case in CASES:
        if (names and case.name not in names) or not (root / case.name / "reference.npz").exists():
            continue
        print(case.name, "exact  ", *compare(case, root / case.name), sep="  ")
        print(case.name, "default", *explain(case, root / case.name), sep="  ")
        print(case.name, "sums32 ", *compare(case, root / case.name, exact=False, reference="reference32"), sep="  ")


if __name__ == "__main__":
    main()
