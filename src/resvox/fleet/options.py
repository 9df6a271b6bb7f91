"""How a prediction over addresses is run: parts, scratch, cluster, prices."""

from __future__ import annotations

from dataclasses import dataclass

from resvox.errors import InferenceError
from resvox.storage.scratch import DEFAULT_GB

CLUSTERS = ("ray",)


@dataclass(frozen=True, kw_only=True)
class FleetOptions:
    """How a prediction over addresses is run.

    Args:
        shard: the part of the manifest, such as "3/7"; None reads the variables of an array job, see
            `resvox.fleet.shards.Shard.of_environment`.
        scratch: folder for files that are fetched; None for RESVOX_SCRATCH, otherwise the system's temporary folder.
        scratch_gb: what they may take together.
        ahead: scans that are fetched ahead of the network.
        cluster: "ray" runs actors of Ray; None runs in this process.
        address: of a running cluster, such as "auto" or "ray://head:10001"; None starts Ray on this machine.
        workers: actors; None for one per GPU, or one per 4 cores.
        retry_aside: also do the scans that were set aside because they ended two processes.
        core_hour_price: of a core for an hour, in any currency; the summary then has a cost.

    Raises:
        InferenceError: a value that cannot be.
    """

    shard: str | None = None
    scratch: str | None = None
    scratch_gb: float = DEFAULT_GB
    ahead: int = 4
    cluster: str | None = None
    address: str | None = None
    workers: int | None = None
    retry_aside: bool = False
    core_hour_price: float | None = None

    def __post_init__(self) -> None:
        if not self.scratch_gb > 0:
            raise InferenceError(f"scratch_gb={self.scratch_gb}", expected="a number above 0, e.g. 20")
        if self.ahead < 1:
            raise InferenceError(f"ahead={self.ahead}", expected="a whole number, at least 1")
        if self.cluster is not None and self.cluster not in CLUSTERS:
            raise InferenceError(f"cluster={self.cluster!r}", expected=" or ".join(map(repr, CLUSTERS)))
        if self.workers is not None and self.workers < 1:
            raise InferenceError(f"workers={self.workers}", expected="a whole number, at least 1")
        if self.cluster is None and (self.workers is not None or self.address is not None):
            name = "workers" if self.workers is not None else "address"
            raise InferenceError(f"{name} without a cluster", expected="cluster='ray' (--cluster ray)")
        if self.core_hour_price is not None and not self.core_hour_price >= 0:
            raise InferenceError(f"core_hour_price={self.core_hour_price}", expected="a price, at least 0")
