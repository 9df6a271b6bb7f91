"""Which windows of a scan are computed: all, or those that a measurement on the first scan found to suffice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from resvox.inference import ChangeRates, LabelComparison, Measured, TwoPasses, WindowCount
from resvox.prediction.speed.verdicts import ALLOWANCES, LIMITS, Verdict, chosen, read_verdict, write_verdict

if TYPE_CHECKING:
    from resvox.inference import Difference, FinishedSlice, TopTwo

Array = np.ndarray[Any, Any]


class Run(Protocol):
    """Starts the windows of one scan, see `resvox.prediction.predictor.stream`."""

    def __call__(
        self, *, count: WindowCount, passes: TwoPasses | None = None, sparse: bool = False
    ) -> Iterator[FinishedSlice]:
        """The blended outputs, slice by slice."""


class SpeedControl:
    """The speed of one model: measured on the first scan of a batch, then used, or given up for full.

    The first scan gets the labels of full, which are computed beside those that are measured. A batch of one scan uses
    the verdict that is kept on disk from an earlier batch with the same model and settings, where there is one.

    Args:
        speed: "full", "balanced" or "fast".
        labels_of: labels (*rest) of outputs (classes, *rest).
        top_two: see `resvox.inference.TwoPasses`.
        name: of the verdict on disk, see `verdict_name`.
        notify: called with a line where the speed is given up.
    """

    def __init__(
        self,
        speed: str,
        *,
        labels_of: Callable[[Array], Array],
        top_two: Callable[[Array], TopTwo],
        name: str,
        notify: Callable[[str], object] | None,
    ) -> None:
        self.speed, self.labels_of, self.top_two = speed, labels_of, top_two
        self.name, self.notify = name, notify
        self.verdict: Verdict | None = None if speed == "full" else read_verdict(name)
        self._passes: TwoPasses | None = None  # of a scan whose windows were left out in part

    def begin(self, cases: int) -> None:
        """A batch begins: of several cases the first one is measured, whatever was found before."""
        if cases > 1:
            self.verdict = None

    def slices(self, run: Run, count: WindowCount) -> Iterator[FinishedSlice]:
        """The blended outputs of a scan at this speed; fills ``count``, and measures the first scan of a batch."""
        self._passes = None
        if self.speed == "full":
            yield from run(count=count)
        elif self.verdict is None:
            yield from (self._measured(run, count) if self.speed == "balanced" else self._measured_fast(run, count))
        elif not self.verdict.is_allowed:
            yield from run(count=count)
        elif self.speed == "balanced":
            self._passes = self._two_passes(ChangeRates(self.verdict.counts), limit=self.verdict.limit)
            yield from run(count=count, passes=self._passes)
        else:
            yield from run(count=count, sparse=True)

    @property
    def expected(self) -> Difference | None:
        """The expected difference of the last scan from full, by the rates that were counted on that scan.

        None if it was not computed in two passes.
        """
        return None if self._passes is None else self._passes.budget.expected(self._passes.change_rates)

    def goes_back(self) -> bool:
        """Whether the last scan must be computed in full: more changes are expected of it than are allowed."""
        expected = self.expected
        if expected is None or ALLOWANCES[self.speed].allows(expected):
            return False
        if self.notify is not None:
            self.notify(
                f"speed {self.speed}: {100 * expected.share:.3f} % of the labels of a scan may differ from those of "
                f"full, least Dice {expected.least_dice:.4f}, as its own windows show; full is used for this scan"
            )
        return True

    def record(
        self, count: WindowCount, *, is_first: bool, expected: Difference | None = None, went_back: bool = False
    ) -> Mapping[str, Any]:
        """What the line of a scan in predict.jsonl has about its speed; nothing of full.

        Args:
            count: of the windows that were computed.
            is_first: whether it was measured.
            expected: see `expected`.
            went_back: whether it was computed in full because of this.
        """
        if self.speed == "full" or self.verdict is None:
            return {}
        is_full = is_first or went_back or not self.verdict.is_allowed
        own = {} if expected is None else {"expected": asdict(expected), "went_back": went_back}
        return {
            "speed": {
                "asked": self.speed,
                "used": "full" if is_full else self.speed,
                "computed": count.computed,
                **own,
                "measured": {
                    "is_first": is_first,
                    "labels_changed": self.verdict.share,
                    "least_dice": self.verdict.least_dice,
                    "computed": self.verdict.computed,
                    "windows": self.verdict.windows,
                },
            }
        }

    def _settle(self, verdict: Verdict) -> None:
        self.verdict = verdict
        write_verdict(self.name, verdict)
        if not verdict.is_allowed and self.notify is not None:
            self.notify(verdict.describe(self.speed))

    def _measured(self, run: Run, count: WindowCount) -> Iterator[FinishedSlice]:
        """The slices of full; beside them, what each limit of the second pass would change."""
        trials, change_rates = [Measured(limit=limit) for limit in LIMITS], ChangeRates()
        yield from run(count=count, passes=self._two_passes(change_rates, measured=trials))
        tried = [(each.limit, each.computed, each.labels.difference()) for each in trials]
        self._settle(chosen(tried, speed=self.speed, windows=count.computed, change_rates=change_rates))

    def _two_passes(
        self, change_rates: ChangeRates, *, limit: float = 0.0, measured: Sequence[Measured] = ()
    ) -> TwoPasses:
        return TwoPasses(
            top_two=self.top_two,
            limit=limit,
            allowance=ALLOWANCES[self.speed],
            change_rates=change_rates,
            measured=measured,
            labels_of=self.labels_of,
        )

    def _measured_fast(self, run: Run, count: WindowCount) -> Iterator[FinishedSlice]:
        """The slices of full; afterwards those of fast, which are compared."""
        kept: dict[tuple[int, int], Array] = {}
        for each in run(count=count):
            kept[each.index, each.start] = self.labels_of(each.logits).astype(np.uint16)
            yield each
        own, compared = WindowCount(), LabelComparison()
        for each in run(count=own, sparse=True):
            compared.add(self.labels_of(each.logits), kept.pop((each.index, each.start)))
        tried = [(0.0, own.computed, compared.difference())]
        self._settle(chosen(tried, speed=self.speed, windows=count.computed))
