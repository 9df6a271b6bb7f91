"""What windows may still change: change_rates that are counted, and allowances label by label."""

from __future__ import annotations

import numpy as np
import pytest

from resvox.inference.passes.label_changes import (
    BINS,
    CAUTION,
    EDGES,
    SPREAD,
    Allowance,
    ChangeBudget,
    ChangeRates,
    Counts,
    ResolvedVoxels,
    bins_of,
    resolved_voxels,
)


def counted(rates, voxels=1_000_000):
    return Counts(voxels=(float(voxels),) * BINS, changes=tuple(voxels * each for each in rates))


def of_label(label, bin, voxels):
    touched = np.zeros((label + 1, BINS))
    touched[label, bin] = voxels
    every = np.zeros(BINS)
    every[bin] = voxels
    return ResolvedVoxels(every, touched)


def seen(budget, **voxels):
    budget.see(np.repeat([int(name[1:]) for name in voxels], list(voxels.values())))
    return budget


def test_bins_rise_with_the_margin_and_fall_with_the_part_that_was_not_seen():
    margins = np.array([0.0, 0.04, 1.0, 1.0, 1e9, 0.0], np.float32)
    unseen = np.array([0.5, 1.0, 1.0, 0.1, 0.0, 0.0], np.float32)
    assert bins_of(margins, unseen).tolist() == [0, 0, 5, 8, BINS - 1, 0]
    assert len(EDGES) == BINS - 1


def test_counts_of_this_scan_and_of_one_before_give_the_rates():
    change_rates = ChangeRates(counted(np.geomspace(0.4, 1e-7, BINS)))
    before = change_rates.rates
    assert before == pytest.approx(np.geomspace(0.4, 1e-7, BINS), rel=0.1)
    bins = np.full(1_000_000, 5)
    labels = np.ones_like(bins)
    change_rates.add(labels, 0 * labels, bins, np.where(np.arange(len(bins)) < 300_000, 0, labels))
    assert change_rates.rates[5] == pytest.approx((before[5] + 0.3) / 2, rel=0.01)
    assert (np.diff(change_rates.rates) <= 0).all()  # what is more doubtful changes at least as often
    assert change_rates.rates[4] >= change_rates.rates[5]


def test_a_label_that_changes_more_often_than_its_margins_let_expect_has_a_rate_of_its_own():
    change_rates = ChangeRates(counted([0.1] * BINS))
    labels = np.repeat([1, 2], 10_000)
    change_rates.add(
        labels,
        np.zeros_like(labels),
        np.full(20_000, 3),
        np.where(np.arange(20_000) % 10_000 < labels * 500, 0, labels),
    )
    one, two = change_rates.changes_of(
        np.array([[0.0] * BINS, [100.0] + [0] * (BINS - 1), [100.0] + [0] * (BINS - 1)])
    )[1:]
    assert two == pytest.approx(2 * one, rel=0.05)
    again = ChangeRates(change_rates.counts())
    assert (
        again.changes_of(np.array([[0.0] * BINS, [100.0] * BINS]))[1]
        < again.changes_of(np.array([[0.0] * BINS] * 2 + [[100.0] * BINS]))[2]
    )


def test_a_window_that_would_change_a_small_label_is_computed_and_the_same_of_a_large_one_is_left_out():
    change_rates = ChangeRates(counted([0.01] * BINS))
    windows = {"of the small": of_label(1, 4, 1000), "of the large": of_label(2, 4, 1000)}  # ten changes each
    budget = seen(ChangeBudget(), l0=10_000_000, l1=500, l2=1_000_000)
    assert budget.skip(windows, change_rates) == {"of the large"}


def test_a_label_that_the_first_pass_did_not_find_is_protected_as_what_a_voxel_may_become():
    change_rates = ChangeRates(counted([0.01] * BINS))
    voxels = np.zeros((10, 10), np.int64)
    becoming = resolved_voxels(voxels * BINS + 4, (voxels + 3) * BINS + 4, np.ones((10, 10)))  # a change is expected
    assert becoming.every.sum() == 100
    assert becoming.touched.sum(axis=1).tolist() == [100, 0, 0, 100]
    budget = seen(ChangeBudget(), l0=10_000_000)
    assert budget.skip({"window": becoming}, change_rates) == set()


def test_all_windows_that_were_left_out_share_one_allowance():
    change_rates = ChangeRates(counted([0.01] * BINS))
    budget = seen(ChangeBudget(allowance=Allowance(share=1.0, least_dice=0.99)), l0=1, l1=15_000)  # 300 changes
    rows = [budget.skip({row: of_label(1, 4, 4_000)}, change_rates) for row in range(6)]  # 40 changes each
    # with caution and a margin for chance two windows are within 300 changes, three are not
    assert rows == [{0}, {1}, set(), set(), set(), set()]
    changes = 2 * CAUTION * 40
    assert budget.expected(change_rates).least_dice == pytest.approx(1 - changes / 30_000, rel=1e-3)
    assert budget.used(change_rates) == pytest.approx((changes + SPREAD * changes**0.5) / 300, rel=0.01)


def test_what_this_scan_shows_makes_the_windows_that_were_left_out_exceed_the_allowance():
    change_rates = ChangeRates(counted([0.01] * BINS, voxels=10_000))
    budget = seen(ChangeBudget(allowance=Allowance(share=1.0, least_dice=0.99)), l0=1, l1=100_000)
    assert budget.skip({"window": of_label(1, 4, 10_000)}, change_rates)
    assert budget.used(change_rates) < 1
    labels = np.ones(10_000, np.int64)
    change_rates.add(labels, 0 * labels, 4 * labels, np.where(np.arange(10_000) < 5_000, 0, labels))
    assert budget.used(change_rates) > 1


def test_below_0_nothing_is_left_out():
    assert ChangeBudget(limit=-1.0).skip({"window": of_label(0, BINS - 1, 0)}, ChangeRates()) == set()
