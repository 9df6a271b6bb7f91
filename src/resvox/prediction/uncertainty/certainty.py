"""What a prediction knows of its own certainty, as its options want it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resvox.errors import InferenceError

if TYPE_CHECKING:
    from resvox.cards import SegmentationCard
    from resvox.inference import Engine
    from resvox.inference.uncertainty.doubt import DoubtMaps
    from resvox.prediction.model_files import ModelFile
    from resvox.prediction.options import PredictOptions
    from resvox.preprocessing import Prepared


@dataclass(frozen=True, kw_only=True)
class Certainty:
    """Calibration and doubt of a model.

    Args:
        temperature: by which logits are divided; 1 where the model has none.
        is_calibrated: whether probabilities are written with it.
        is_wanted: whether maps and scores of doubt are made.
        independent: outputs are decided one by one, as those of regions.
        members: how many networks are averaged.
    """

    temperature: float
    is_calibrated: bool
    is_wanted: bool
    independent: bool
    members: int

    @property
    def of_probabilities(self) -> float:
        """The temperature of the probabilities that are written."""
        return self.temperature if self.is_calibrated else 1.0

    def engine(self, engines: Sequence[Engine]) -> Engine:
        """Several engines as one, which also gives their disagreement where it is wanted."""
        from resvox.inference import EnsembleEngine
        from resvox.inference.uncertainty.doubt import DisagreeingEngine

        if not self.is_wanted:
            return EnsembleEngine(engines)
        return DisagreeingEngine(engines, temperature=self.temperature, independent=self.independent)

    def maps(self, prepared: Prepared) -> DoubtMaps | None:
        """What gathers the doubt of one scan; None where it is not wanted."""
        from resvox.inference.uncertainty.doubt import DoubtMaps

        if not self.is_wanted:
            return None
        return DoubtMaps(prepared, temperature=self.temperature, independent=self.independent, members=self.members > 1)


def certainty_of(
    files: Sequence[ModelFile],
    card: SegmentationCard,
    options: PredictOptions,
    notify: Callable[[str], object] | None,
) -> Certainty:
    """The certainty of the networks of a prediction.

    Raises:
        InferenceError: calibrated probabilities of a model without a temperature, or an option that cannot be used
            with them.
    """
    found = temperature_of(files)
    if options.calibrated and found is None:
        raise InferenceError(
            "calibrated=True, with a model that has no temperature",
            expected="a model of resvox train, whose validation fits one",
            fix="leave --calibrated out, or train the model with this version",
            path=files[0].path,
        )
    for name, is_on in (("exact", options.exact), ("skip_empty", options.skip_empty)):
        if is_on and (options.uncertainty or options.calibrated):
            raise InferenceError(
                f"{name}=True beside {'uncertainty' if options.uncertainty else 'calibrated'}=True",
                expected="one of them",
                fix=f"leave --{name.replace('_', '-')} out",
                path=files[0].path,
            )
    if card.outputs is not None and (options.uncertainty or options.calibrated):
        raise InferenceError(
            "uncertainty or calibrated probabilities with a model whose outputs become labels in a way of its own",
            expected="a model whose largest logit is the label, or whose regions are where a logit is above 0",
            fix="leave --uncertainty and --calibrated out",
            path=files[0].path,
        )
    if options.uncertainty and options.speed != "full":
        raise InferenceError(
            f"speed={options.speed!r} beside uncertainty=True",
            expected="every window, for doubt is where windows would be left out",
            fix="leave --speed out",
            path=files[0].path,
        )
    if options.uncertainty and found is None and notify is not None:
        notify("the model has no temperature: the uncertainty is that of probabilities that are not calibrated")
    return Certainty(
        temperature=found or 1.0,
        is_calibrated=options.calibrated,
        is_wanted=options.uncertainty,
        independent=card.regions is not None,
        members=len(files),
    )


def temperature_of(files: Sequence[ModelFile]) -> float | None:
    """The temperature of a model, of several the geometric mean; None where one has none."""
    found = [getattr(file.card, "temperature", None) for file in files]
    known = [value for value in found if value is not None]
    if len(known) < len(found) or not known:
        return None
    return math.exp(sum(map(math.log, known)) / len(known))
