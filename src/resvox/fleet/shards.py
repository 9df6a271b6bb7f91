"""Shards: the part of a manifest that one job of an array does."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from resvox.errors import InferenceError
from resvox.fleet.manifest import Row

FORM = re.compile(r"\s*(\d+)\s*/\s*(\d+)\s*")
COUNT = "RESVOX_SHARDS"
EXAMPLE = "I/N with I from 1 to N, such as 3/7"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One of several parts, all of which together are the whole.

    Args:
        index: from 1 on.
        count: how many there are.
        origin: the variable that it was read from; "" where it was given.

    Raises:
        InferenceError: an index that is not one of them.
    """

    index: int = 1
    count: int = 1
    origin: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise InferenceError(f"shard {self.index}/{self.count}", expected=EXAMPLE)

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``3/7``.

        Raises:
            InferenceError: another text.
        """
        match = FORM.fullmatch(text)
        if match is None:
            raise InferenceError(f"--shard {text!r}", expected=EXAMPLE)
        return cls(index=int(match[1]), count=int(match[2]))

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] | None = None) -> tuple[Shard, str]:
        """The shard of this job of an array (Slurm, AWS Batch, Kubernetes), and a note on it; the whole elsewhere.

        Slurm sets all that is needed. AWS Batch and Kubernetes set the index; the number of jobs is read from
        RESVOX_SHARDS (or from AWS_BATCH_JOB_ARRAY_SIZE, where it is set).

        Raises:
            InferenceError: a variable that is no number, or an index beyond the number of jobs.
        """
        here = os.environ if environment is None else environment
        if "SLURM_ARRAY_TASK_ID" in here:
            return _slurm(here), ""
        for variable, counts in (
            ("AWS_BATCH_JOB_ARRAY_INDEX", (COUNT, "AWS_BATCH_JOB_ARRAY_SIZE")),
            ("JOB_COMPLETION_INDEX", (COUNT,)),
        ):
            if variable not in here:
                continue
            count = next((name for name in counts if name in here), None)
            if count is None:
                return cls(), (
                    f"{variable} is set and {COUNT} is not: every job goes through the whole manifest, "
                    f"and claims divide it; set {COUNT} to the number of jobs"
                )
            return cls(index=_number(here, variable) + 1, count=_number(here, count), origin=variable), ""
        return cls(), ""

    @property
    def is_whole(self) -> bool:
        """Whether there is one part only."""
        return self.count == 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}" + (f" (by {self.origin})" if self.origin else "")

    def has(self, name: str) -> bool:
        """Whether a case belongs to this part, by its name alone."""
        return _hash(name) % self.count == self.index - 1


def rows_of_shard(rows: Iterable[Row], shard: Shard) -> Iterator[Row]:
    """The rows of a shard, the same in every run, whatever their order in the manifest.

    Where every row has a size, the parts are of nearly equal bytes: rows sorted by size are dealt out to the parts,
    forwards and backwards in turn. ``rows`` is then gone through twice, with 20 bytes in memory per row.
    """
    if shard.is_whole:
        yield from rows
        return
    dealt = _dealt(rows, shard)
    if dealt is None:
        yield from (row for row in rows if shard.has(row.id))
        return
    for row, part in zip(rows, dealt, strict=True):
        if part == shard.index - 1:
            yield row


def _dealt(rows: Iterable[Row], shard: Shard) -> np.ndarray | None:
    """The part of each row, by size; None where rows have no sizes."""
    hashes, sizes = bytearray(), bytearray()
    for row in rows:
        if row.bytes is None:
            return None
        hashes += _hash(row.id).to_bytes(8, "little")
        sizes += max(row.bytes, 0).to_bytes(8, "little")
    order = np.lexsort((np.frombuffer(hashes, np.uint64), -np.frombuffer(sizes, np.int64)))
    place = np.arange(len(order))
    turn, step = np.divmod(place, shard.count)
    parts = np.empty(len(order), np.uint32)
    parts[order] = np.where(turn % 2 == 0, step, shard.count - 1 - step)
    return parts


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _slurm(here: Mapping[str, str]) -> Shard:
    step = _number(here, "SLURM_ARRAY_TASK_STEP", default=1) or 1
    first = _number(here, "SLURM_ARRAY_TASK_MIN", default=0)
    index = (_number(here, "SLURM_ARRAY_TASK_ID") - first) // step + 1
    return Shard(index=index, count=_number(here, "SLURM_ARRAY_TASK_COUNT"), origin="SLURM_ARRAY_TASK_ID")


def _number(here: Mapping[str, str], name: str, *, default: int | None = None) -> int:
    text = here.get(name, "")
    if not text and default is not None:
        return default
    if not text.strip().isdigit():
        raise InferenceError(
            f"{name}={text!r}", expected="a whole number", fix="give the part yourself: --shard 3/7, or --shard 1/1"
        )
    return int(text)
