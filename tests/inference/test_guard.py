"""The fastest engine whose labels are those of float32."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from resvox.errors import InferenceError
from resvox.inference.engines.guard import GuardedEngine, Verdict


class Says:
    """An engine whose second class wins in the given share of voxels."""

    def __init__(self, share, name="fast"):
        self.share, self.name, self.precision, self.device = share, name, "bfloat16", "cpu"
        self.calls = 0

    def __call__(self, windows):
        self.calls += 1
        logits = np.zeros((len(windows), 2, *windows.shape[2:]), np.float32)
        logits[:, 1] = np.where(windows[:, 0] < self.share, 1, -1)
        return logits


class LoadsLate(Says):
    """An engine whose network is loaded by the first call, and cannot be."""

    def finish_loading(self):
        raise InferenceError("a damaged network, and it cannot be compiled again")


def ramp(shift=0.0):
    return (np.linspace(0, 1, 1000, endpoint=False) + shift).reshape(1, 1, 10, 10, 10).astype(np.float32)


def guarded(*engines, reference, **options):
    notes, verdicts = [], []
    made = GuardedEngine(
        [(engine.name, lambda engine=engine: engine) for engine in engines],
        lambda: reference,
        on_verdict=verdicts.append,
        notify=notes.append,
        **options,
    )
    return made, notes, verdicts


def test_an_engine_that_agrees_is_kept_and_compared_once():
    fast, plain = Says(0.5), Says(0.5, "plain")
    made, notes, verdicts = guarded(fast, reference=plain)
    for _ in range(3):
        made(ramp())
    assert (fast.calls, plain.calls, notes) == (3, 1, [])
    assert verdicts == [Verdict(0, 0.0)]
    assert (made.name, made.precision, made.changed) == ("fast", "bfloat16", 0.0)


@pytest.mark.parametrize(("share", "used"), [(0.501, "close"), (0.502, "plain")])
def test_a_thousandth_of_the_labels_is_the_limit(share, used):
    made, _, _ = guarded(Says(share, "close"), reference=Says(0.5, "plain"))
    made(ramp())
    assert made.name == used


def test_the_next_candidate_answers_the_window_that_the_first_got_wrong():
    wrong, right = Says(0.6, "wrong"), Says(0.5, "right")
    made, notes, verdicts = guarded(wrong, right, reference=Says(0.5, "plain"))
    answer = made(ramp())
    assert (answer[:, 1] > 0).mean() == 0.5
    assert notes == ["wrong would change 10.00 % of the labels of a window; not used"]
    assert verdicts == [Verdict(1, 0.0)]
    made(ramp())
    assert (wrong.calls, right.calls) == (1, 2)


def test_an_engine_that_was_given_up_is_gone_before_the_next_one_takes_memory():
    held = []

    def wrong():
        engine = Says(0.6, "wrong")
        held.append(weakref.ref(engine))
        return engine

    def right():
        assert held[0]() is None
        return Says(0.5, "right")

    made = GuardedEngine([("wrong", wrong), ("right", right)], lambda: Says(0.5, "plain"), notify=lambda words: None)
    made(ramp())
    assert made.name == "right"


@pytest.mark.parametrize("first", [Says(0.6, "wrong"), LoadsLate(0.5, "late")], ids=["disagrees", "cannot be loaded"])
def test_a_next_engine_that_fails_once_is_made_again(first):
    failures = [MemoryError("out of memory")]

    def sometimes():
        if failures:
            raise failures.pop()
        return Says(0.5, "right")

    made = GuardedEngine(
        [(first.name, lambda: first), ("right", sometimes)],
        lambda: Says(0.5, "plain"),
        notify=lambda words: None,
    )
    with pytest.raises(MemoryError):
        made(ramp())
    assert (made(ramp())[:, 1] > 0).mean() == 0.5
    assert made.name == "right"


def test_where_none_agrees_the_reference_itself_answers():
    made, notes, verdicts = guarded(Says(0.9), Says(0.1), reference=Says(0.5, "plain"))
    assert (made(ramp())[:, 1] > 0).mean() == 0.5
    assert len(notes) == 2
    assert verdicts == [Verdict(2, 0.0)]
    assert made.changed == 0.0
    assert made.name == "plain"


def test_torch_tells_labels_without_handing_out_logits():
    import torch

    from resvox.inference import TorchEngine

    for classes in (1, 3):
        engine = TorchEngine(torch.nn.Conv3d(1, classes, 3, padding=1), device="cpu")
        windows = np.random.default_rng(0).normal(size=(2, 1, 5, 6, 7)).astype(np.float32)
        logits = engine(windows)
        np.testing.assert_array_equal(engine.labels(windows), logits.argmax(1) if classes > 1 else logits[:, 0] > 0)


def test_windows_of_background_alone_settle_nothing():
    plain = Says(0.9, "plain")
    made, _, _ = guarded(Says(0.5), reference=plain)
    made(ramp(shift=2))
    assert (plain.calls, made.changed) == (0, None)
    made(ramp())
    assert (plain.calls, made.name) == (2, "plain")  # compared with, and then asked


def test_an_earlier_verdict_is_believed():
    plain = Says(0.9, "plain")
    made, _, _ = guarded(Says(0.1, "a"), Says(0.2, "b"), reference=plain, verdict=Verdict(1, 0.0005))
    made(ramp())
    assert (plain.calls, made.name, made.changed) == (0, "b", 0.0005)


def test_an_engine_that_cannot_be_made_is_passed_over_and_said():
    def broken():
        raise InferenceError("no such processor")

    notes = []
    made = GuardedEngine([("this one", broken)], lambda: Says(0.5, "plain"), notify=notes.append)
    assert made.name == "plain"
    assert notes == ["no this one: no such processor"]


@pytest.mark.parametrize("verdict", [None, Verdict(0, 0.0)])
def test_an_engine_whose_network_cannot_be_loaded_is_passed_over_too(verdict):
    made, notes, verdicts = guarded(LoadsLate(0.5), Says(0.5, "next"), reference=Says(0.5, "plain"), verdict=verdict)
    assert (made(ramp())[:, 1] > 0).mean() == 0.5
    assert made.name == "next"
    assert notes == ["no fast: a damaged network, and it cannot be compiled again"]
    assert verdicts == [Verdict(1, 0.0)]  # an earlier one was on the engine that failed: compared anew


def test_a_verdict_on_an_engine_that_can_no_longer_be_made_is_not_applied_to_the_next():
    def broken():
        raise InferenceError("no such processor")

    verdicts = []
    made = GuardedEngine(
        [("gone", broken), ("wrong", lambda: Says(0.9, "wrong"))],
        lambda: Says(0.5, "plain"),
        verdict=Verdict(0, 0.0),
        on_verdict=verdicts.append,
        notify=lambda words: None,
    )
    assert (made(ramp())[:, 1] > 0).mean() == 0.5
    assert (made.name, verdicts) == ("plain", [Verdict(2, 0.0)])


def test_a_reference_whose_network_cannot_be_loaded_is_an_error():
    made, _, _ = guarded(reference=LoadsLate(0.5, "plain"))
    with pytest.raises(InferenceError, match="damaged network"):
        made(ramp())


def test_the_memory_of_a_candidate_is_released_while_the_reference_computes():
    class Keeps(Says):
        held = False

        def __call__(self, windows):
            self.held = True
            self.kept = super().__call__(windows)
            return self.kept

        def release_memory(self):
            self.held = False
            self.kept[:] = np.nan  # an output is invalid from now on

    class Watches(Says):
        def __call__(self, windows):
            assert not fast.held
            return super().__call__(windows)

    fast = Keeps(0.5)
    made, notes, verdicts = guarded(fast, reference=Watches(0.5, "plain"))
    assert np.isfinite(made(ramp())).all()
    assert (notes, verdicts) == ([], [Verdict(0, 0.0)])
