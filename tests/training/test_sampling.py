"""Patches: the same for the same number, the planned share of foreground, rare labels, padding."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resvox.training import Plan, read_dataset
from resvox.training.batches import StepBatches, batch_loader
from resvox.training.patches import cut_patch, cut_strided
from resvox.training.segmentation import samples
from resvox.training.segmentation.cache import prepare_cases
from resvox.training.segmentation.samples import PatchSampler
from resvox.volumes import read_label_map

SMALL = {
    "strides": (1, 1, 1, 1, 1),
    "patch_size": (4, 4, 4),
    "num_classes": 3,
    "augmentation": "none",
    "spacing_mm": (2.0, 1.0, 1.0),
}


@pytest.fixture
def sampler_of(folder_of, tmp_path):
    def make(ids=("a", "b", "c"), shape=(16, 16, 16), **changes):
        plan = Plan(**{**SMALL, **changes})
        dataset = read_dataset(folder_of(f"data{len(ids)}{shape}", ids=ids, shape=shape))
        return PatchSampler(prepare_cases(dataset.cases, dataset, plan.preprocessing(), tmp_path / "cache"), plan)

    return make


def same(one, other):
    return torch.equal(one.image, other.image) and torch.equal(one.target, other.target)


@pytest.mark.parametrize("augmentation", ["none", "light", "default", "nnunet"])
def test_a_sample_depends_on_seed_and_number_alone(sampler_of, augmentation):
    options = {"augmentation": augmentation, "mirror_axes": (0, 1, 2), "spacing_mm": None}
    one, other = sampler_of(**options), sampler_of(**options)
    np.random.seed(1)
    torch.manual_seed(1)
    forwards = [one[number] for number in range(12)]
    np.random.seed(2)
    torch.manual_seed(2)
    backwards = [other[number] for number in reversed(range(12))]
    assert all(same(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))
    assert all(patch.image.shape == (1, 4, 4, 4) for patch in forwards)
    assert all(patch.image.dtype == torch.float32 and patch.target.dtype == torch.int64 for patch in forwards)
    assert not any(same(a, b) for a, b in itertools.combinations(forwards, 2))
    reseeded = sampler_of(**options, seed=1)
    assert not all(same(forwards[number], reseeded[number]) for number in range(12))


def test_every_case_comes_once_an_epoch(sampler_of):
    sampler = sampler_of()
    order = [sampler.case(number).id for number in range(30)]
    epochs = [order[i : i + 3] for i in range(0, 30, 3)]
    assert all(sorted(epoch) == ["a", "b", "c"] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


@pytest.mark.parametrize("fraction", [0.0, 0.33, 0.5, 1.0])
def test_the_share_of_foreground_is_exact(sampler_of, fraction):
    sampler = sampler_of(foreground_fraction=fraction)
    chosen = [sampler.is_foreground(number) for number in range(300)]
    assert sum(chosen) == int(300 * fraction)
    for number in range(40):
        if chosen[number]:
            assert sampler[number].target[2, 2, 2] > 0 or sampler[number].target.any()


def test_borders_are_not_drawn_more_often_where_a_patch_spans_several_times_its_voxels(sampler_of, monkeypatch):
    """Patches of 4 voxels at every fourth one in 20 voxels begin at 0 to 4, each with the same chance."""
    sampler, starts = sampler_of(foreground_fraction=0.0, shape=(20, 20, 20), spacing_mm=None, patch_stride=4), []

    def note(array, centre, patch, size, stride, **options):
        if stride == 4 and not options:
            starts.extend(min(max(place - 8, 0), 4) for place in centre)
        return cut_strided(array, centre, patch, size, stride, **options)

    monkeypatch.setattr(samples, "cut_strided", note)
    for number in range(800):
        sampler[number]
    counts = Counter(starts)
    assert sum(counts.values()) > 450
    assert sorted(counts) == [0, 1, 2, 3, 4]
    assert max(counts.values()) < 1.3 * min(counts.values())


def test_rare_labels_are_seen_as_often_as_large_ones(sampler_of):
    sampler = sampler_of(ids=("a",), foreground_fraction=1.0)
    label = sampler.cases[0].label
    assert (label == 1).sum() > 7 * (label == 2).sum()
    centres = Counter(int(sampler[number].target[2, 2, 2]) for number in range(200))
    # a centre is moved where the patch would leave the volume; both labels keep away from the border here
    assert centres[1] + centres[2] == 200
    assert 70 < centres[2] < 130


def test_smaller_volumes_are_padded_as_inference_pads(sampler_of):
    patch = sampler_of(shape=(3, 16, 16), patch_size=(8, 4, 4))[0]
    assert patch.image.shape == (1, 8, 4, 4)
    assert not patch.image[:, :2].any()  # 5 voxels are missing: 2 before, 3 after
    assert patch.image[:, 2:5].any()
    assert not patch.image[:, 5:].any()


@given(
    size=st.tuples(*[st.integers(1, 9)] * 3),
    patch=st.tuples(*[st.integers(1, 9)] * 3),
    margin=st.tuples(*[st.integers(0, 3)] * 3),
    place=st.tuples(*[st.floats(0, 1)] * 3),
)
@settings(deadline=None, max_examples=150)
def test_a_cut_is_the_padded_array_sliced(size, patch, margin, place):
    array = np.arange(1, 1 + np.prod(size)).reshape(1, *size)
    centre = tuple(int(at * (n - 1)) for at, n in zip(place, size, strict=True))
    wide = tuple(p + 2 * m for p, m in zip(patch, margin, strict=True))
    found = cut_patch(array, centre, patch, wide)
    assert found.shape == (1, *wide)
    padded = np.pad(array, [(0, 0), *[(20, 20)] * 3])
    starts = []
    for n, p, c, m in zip(size, patch, centre, margin, strict=True):
        inner = -((p - n) // 2) if n < p else int(np.clip(c - p // 2, 0, n - p))
        starts.append(20 + inner - m)
    box = tuple(slice(s, s + w) for s, w in zip(starts, wide, strict=True))
    assert np.array_equal(found, padded[(slice(None), *box)])
    if all(p <= n for p, n in zip(patch, size, strict=True)):
        assert array[(0, *centre)] in found


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_processes_share_each_batch(world_size):
    plan = Plan(batch_size=4, steps=10, warmup_steps=0)
    shares = [list(StepBatches(plan, first_step=3, rank=rank, world_size=world_size)) for rank in range(world_size)]
    steps = [list(itertools.chain(*step)) for step in zip(*shares, strict=True)]
    assert steps == [list(range(4 * step, 4 * step + 4)) for step in range(3, 10)]


def test_workers_change_nothing(sampler_of):
    sampler = sampler_of(steps=2, warmup_steps=0, augmentation="default")
    alone, helped = (
        list(batch_loader(sampler, sampler.plan, first_step=0, rank=0, world_size=1, workers=workers))
        for workers in (0, 2)
    )
    assert [batch.numbers for batch in alone] == [(0, 1), (2, 3)]
    for one, other in zip(alone, helped, strict=True):
        assert same(one, other)
        assert (one.cases, one.numbers) == (other.cases, other.numbers)


def test_the_last_of_each_batch_are_foreground_as_many_as_in_nnunet(sampler_of):
    for batch, fraction, count in [(2, 0.33, 1), (3, 0.33, 1), (4, 0.33, 1), (5, 0.33, 2), (12, 0.33, 4), (2, 0, 0)]:
        sampler = sampler_of(batch_size=batch, foreground_fraction=fraction, foreground_order="last")
        for step in range(3):
            found = [sampler.is_foreground(step * batch + position) for position in range(batch)]
            assert found == [False] * (batch - count) + [True] * count


def test_labels_take_turns_where_few_cases_have_one(sampler_of, folder_of, image_writer, tmp_path):
    plan = Plan(**SMALL, foreground_fraction=0.5, foreground_by="label", seed=3)
    folder = folder_of("rare", ids=tuple("abcdefgh"))
    for name in "bcdefgh":  # only a has label 2
        path = folder / "labelsTr" / f"{name}.nii.gz"
        label = read_label_map(path).array
        image_writer(path, np.where(label == 2, 0, label).astype(np.uint8), (2.0, 1.0, 1.0))
    dataset = read_dataset(folder)
    cases = prepare_cases(dataset.cases, dataset, plan.preprocessing(), tmp_path / "cache")
    sampler = PatchSampler(cases, plan)
    foreground = [number for number in range(64) if sampler.is_foreground(number)]
    assert len(foreground) == 32
    turns = [sampler._turn(number)[0] for number in foreground]
    assert Counter(turns) == {1: 16, 2: 16}
    samples = [sampler[number] for number in foreground]
    assert all((sample.target == turn).any() for sample, turn in zip(samples, turns, strict=True))
    chosen = Counter(sample.case for sample, turn in zip(samples, turns, strict=True) if turn == 2)
    assert set(chosen) == {"a"}
    of_the_common = Counter(sample.case for sample, turn in zip(samples, turns, strict=True) if turn == 1)
    assert set(of_the_common.values()) == {2}  # eight cases have it, each in its turn
    others = [sampler.case(number).id for number in range(64) if not sampler.is_foreground(number)]
    assert len(set(others)) == 8
    by_case = PatchSampler(cases, plan.with_changes(foreground_by="case"))
    assert sum(bool((by_case[number].target == 2).any()) for number in foreground) < 8


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_strided_patch_is_the_mean_of_blocks_and_the_label_in_their_middle(stride):
    array = np.random.default_rng(0).normal(size=(2, 13, 14)).astype(np.float32)
    found = cut_strided(array, (6, 7), (4, 2), (4, 2), stride)
    label = cut_strided(array, (6, 7), (4, 2), (4, 2), stride, is_label=True)
    region = cut_patch(array, (6, 7), (4 * stride, 2 * stride), (4 * stride, 2 * stride))
    for row, column in np.ndindex(4, 2):
        block = region[:, row * stride : (row + 1) * stride, column * stride : (column + 1) * stride]
        np.testing.assert_allclose(found[:, row, column], block.mean((1, 2)), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(label[:, row, column], block[:, stride // 2, stride // 2])


def test_patches_draw_their_stride(sampler_of):
    plain, strided = sampler_of(), sampler_of(patch_stride=3)
    cases = {case.id: np.asarray(case.image[0]) for case in strided.cases}
    drawn = Counter()
    for number in range(60):
        patch, image = strided[number].image[0].numpy(), cases[strided[number].case]
        windows = np.lib.stride_tricks.sliding_window_view(image, (4, 4, 4))
        drawn["whole" if (windows == patch).all((-1, -2, -3)).any() else "strided"] += 1
        assert strided[number].target.shape == (4, 4, 4)
    assert 10 <= drawn["whole"] <= 30  # a third of 60
    assert all(same(strided[number], strided[number]) for number in range(6))
    assert not same(plain[0], plain[1])
