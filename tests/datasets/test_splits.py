"""Who trains and who validates: by hash, by explicit parts, by folds, and whole groups at a time in every task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resvox.datasets import Case, ClassificationDataset, Dataset, ImageCase, RegressionCase, RegressionDataset
from resvox.datasets.splits import check_together, divide, fold_splits, read_split
from resvox.errors import DatasetError


@dataclass(frozen=True)
class Plain:
    id: str
    split: str | None = None
    group: str | None = None


def divided(cases, **options):
    train, validation, reason = divide(cases, **{"fraction": 0.2, "seed": 0, "source": Path("d.csv"), **options})
    return {case.id for case in train}, {case.id for case in validation}, reason


cases = st.lists(
    st.builds(
        Plain,
        id=st.text("abcdefgh", min_size=1, max_size=4),
        split=st.sampled_from([None, None, None, "train", "validation", "test"]),
        group=st.sampled_from([None, "p1", "p2", "p3"]),
    ),
    min_size=1, max_size=25, unique_by=lambda case: case.id,
)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(cases=cases, seed=st.integers(0, 3), fraction=st.floats(0.05, 0.6), by_class=st.booleans())
def test_every_division_keeps_its_promises(cases, seed, fraction, by_class):
    classes = {case.id: case.id[0] in "abcd" for case in cases} if by_class else None
    labelled = [case for case in cases if case.split != "test"]
    following = {case.group for case in labelled if case.split == "validation" and case.group}
    if all(case.split == "validation" or (case.split is None and case.group in following) for case in labelled):
        with pytest.raises(DatasetError, match=r"only test cases|every labelled case is marked 'validation'"):
            divided(cases, seed=seed, fraction=fraction, classes=classes)
        return
    train, validation, reason = divided(cases, seed=seed, fraction=fraction, classes=classes)
    assert (train, validation) == divided(cases[::-1], seed=seed, fraction=fraction, classes=classes)[:2]
    assert train | validation == {case.id for case in labelled}
    assert not train & validation or (train == validation and "validating on the training cases" in reason)
    for case in labelled:
        if case.split is not None and train != validation:
            assert case.id in (train if case.split == "train" else validation)
    for group in ("p1", "p2", "p3"):  # a group is torn only where the dataset has torn it itself
        members = [case for case in labelled if case.group == group]
        if len({case.split for case in members} - {None}) < 2 and train != validation:
            assert len({case.id in train for case in members}) <= 1


def tasks(count, groups, folder):
    """Datasets of the three tasks with the same ids and groups."""
    ids = [f"c{n}" for n in range(count)]
    both = list(zip(ids, groups, strict=True))
    return [
        Dataset(
            name="d", labels={"background": 0, "x": 1}, channel_names=("CT",), spatial_dims=3,
            cases=tuple(Case(id=i, images=(folder / i,), label=folder / i, group=g) for i, g in both),
        ),
        ClassificationDataset(
            name="d", classes=("a", "b"), channel_names=("CT",), spatial_dims=3, is_picture=False, source=folder,
            cases=tuple(ImageCase(id=i, images=(folder / i,), label="ab"[n % 2], group=g)
                        for n, (i, g) in enumerate(both)),
        ),
        RegressionDataset(
            name="d", channel_names=("CT",), target_names=("v",), spatial_dims=3, source=folder,
            cases=tuple(RegressionCase(id=i, images=(folder / i,), targets=(folder / i,), group=g) for i, g in both),
        ),
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_a_person_is_on_one_side_in_every_task(tmp_path, seed):
    groups = [f"p{n // 4}" for n in range(40)]
    for dataset in tasks(40, groups, tmp_path):
        split = dataset.split(seed=seed)
        sides = [{case.group for case in part} for part in (split.train, split.validation)]
        assert sides[0]
        assert sides[1]
        assert not sides[0] & sides[1]
        assert "whole groups at a time" in split.reason
        assert 4 <= len(split.validation) <= 12


def test_groups_of_any_size_never_take_all_cases():
    train, validation, _ = divided([Plain("a", group="p"), Plain("b", group="p"), Plain("c", group="q")])
    assert validation == {"c"}  # the smallest group comes nearest to a fifth
    train, validation, reason = divided([Plain("a", group="p"), Plain("b", group="p")])
    assert train == validation == {"a", "b"}
    assert "no case is left for validation" in reason


def test_a_fraction_of_0_is_the_reason_why_the_training_cases_validate():
    train, validation, reason = divided([Plain("a"), Plain("b")], fraction=0.0)
    assert train == validation == {"a", "b"}
    assert reason == "validation_fraction is 0: validating on the training cases themselves"


def test_unmarked_cases_follow_their_group():
    train, validation, _ = divided(
        [Plain("a", "validation", "p"), Plain("b", None, "p"), Plain("c", None, "q"), Plain("d", "train", "r")]
    )
    assert (train, validation) == ({"c", "d"}, {"a", "b"})


def test_a_group_that_the_dataset_tears_is_said(tmp_path):
    cases = [
        Case(id=part, images=(tmp_path,), label=tmp_path, split=part, group="p") for part in ("train", "validation")
    ]
    with pytest.warns(UserWarning, match=r"d\.csv: group 'p' has cases in train and validation"):
        check_together(cases, tmp_path / "d.csv")


def test_the_lowest_fold_validates():
    splits, reason = fold_splits([1, 2, 1, None, 3], Path("d.json"))
    assert splits == ["validation", "train", "validation", "train", "train"]
    assert reason == "fold 1 of 3 that the dataset names validates"
    with pytest.raises(DatasetError, match=r"d\.json: every case has fold 0"):
        fold_splits([0, 0], Path("d.json"))


@pytest.mark.parametrize(
    ("word", "meaning"),
    [("Training", "train"), (" VAL ", "validation"), ("valid", "validation"), ("testing", "test"), ("", None)],
)
def test_words_for_the_parts(word, meaning):
    assert read_split(word, where="line 2", path=Path("m.csv")) == meaning


def test_another_word_is_refused():
    with pytest.raises(DatasetError, match=r"m\.csv: split='holdout' \(line 2\); expected 'train', 'validation'"):
        read_split("holdout", where="line 2", path=Path("m.csv"))


@pytest.mark.parametrize("by_class", [False, True])
def test_a_fraction_of_0_lets_all_train_unless_the_dataset_names_cases(by_class):
    cases = [Plain(id=name) for name in "abcd"]
    classes = {case.id: case.id in "ab" for case in cases} if by_class else None
    train, validation, reason = divided(cases, fraction=0.0, classes=classes)
    assert train == validation == set("abcd")
    assert "validating on the training cases" in reason
    named = [*cases[:3], Plain(id="d", split="validation")]
    assert divided(named, fraction=0.0, classes=classes)[:2] == (set("abc"), {"d"})
