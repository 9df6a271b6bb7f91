"""Shards: together the whole, the same in every run, of nearly equal bytes; read from the variables of array jobs."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resvox.errors import InferenceError
from resvox.fleet.manifest import Row
from resvox.fleet.shards import Shard, rows_of_shard

SIZES = st.lists(st.one_of(st.none(), st.integers(0, 10**10)), max_size=60)


def rows(sizes):
    return [Row(number=n, id=f"case-{n}", uris=(f"s3://b/{n}",), bytes=size) for n, size in enumerate(sizes, 1)]


def parts(all_rows, count):
    return [list(rows_of_shard(all_rows, Shard(index=index, count=count))) for index in range(1, count + 1)]


@given(SIZES, st.integers(1, 9))
def test_parts_are_the_whole(sizes, count):
    found = parts(rows(sizes), count)
    assert sorted(row.number for part in found for row in part) == list(range(1, len(sizes) + 1))
    assert all(part == sorted(part, key=lambda row: row.number) for part in found)


@given(SIZES, st.integers(1, 9), st.randoms())
def test_the_order_of_the_manifest_does_not_matter(sizes, count, chance):
    mixed = rows(sizes)
    chance.shuffle(mixed)
    for part, same in zip(parts(rows(sizes), count), parts(mixed, count), strict=True):
        assert {row.id for row in part} == {row.id for row in same}


def test_parts_are_of_equal_bytes():
    chance = random.Random(0)
    sizes = [int(chance.lognormvariate(18, 1)) for _ in range(2000)]
    bytes_of = [sum(row.bytes for row in part) for part in parts(rows(sizes), 7)]
    assert max(bytes_of) - min(bytes_of) < 0.5 * max(sizes)  # dealt out in one direction: 0.9 of it
    without = [len(part) for part in parts(rows([None] * 2000), 7)]
    assert max(without) < 2 * min(without)


@pytest.mark.parametrize("text", ["0/7", "8/7", "3", "a/b", "3/0", "-1/7", ""])
def test_what_is_no_part(text):
    with pytest.raises(InferenceError, match="3/7"):
        Shard.parse(text)


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, (1, 1)),
        ({"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "7", "SLURM_ARRAY_TASK_MIN": "0"}, (5, 7)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "21", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "1",
                "SLURM_ARRAY_TASK_STEP": "10",
            },
            (3, 3),
        ),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "0", "RESVOX_SHARDS": "7"}, (1, 7)),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "6", "AWS_BATCH_JOB_ARRAY_SIZE": "7"}, (7, 7)),
        ({"JOB_COMPLETION_INDEX": "2", "RESVOX_SHARDS": "4"}, (3, 4)),
    ],
)  # fmt: skip
def test_array_jobs(environment, wanted):
    shard, note = Shard.of_environment(environment)
    assert (shard.index, shard.count) == wanted
    assert note == ""


def test_an_array_job_without_its_size_is_noted():
    shard, note = Shard.of_environment({"JOB_COMPLETION_INDEX": "2"})
    assert shard.is_whole
    assert "RESVOX_SHARDS" in note


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_ARRAY_TASK_ID": "4"},
        {"SLURM_ARRAY_TASK_ID": "x", "SLURM_ARRAY_TASK_COUNT": "7"},
        {"JOB_COMPLETION_INDEX": "7", "RESVOX_SHARDS": "7"},
    ],
)
def test_variables_that_cannot_be(environment):
    with pytest.raises(InferenceError):
        Shard.of_environment(environment)
