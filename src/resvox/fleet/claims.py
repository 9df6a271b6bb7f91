"""Claims on cases as small objects with an expiry, so that processes on several machines do not do a case twice.

A claim is created only if the case has no claim yet. Its holder writes it anew before it expires. A claim that has
expired, or whose process has ended on this machine, is taken over, and the new one counts it: a case that has ended
two processes is set aside. Clocks of machines may differ by a fraction of the lease. The worst result of a lost race
is work that is done twice: the record of a result is created by one process only.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from resvox.errors import StorageError
from resvox.fleet.layout import OutputFolder, parsed
from resvox.locks import describe_process, is_gone
from resvox.storage.objects import create, delete, listing, read_bytes, write_bytes

LEASE_SECONDS = 600.0
BEATS = 3  # in a lease


@dataclass(frozen=True, kw_only=True)
class Held:
    """How a claim was taken.

    Args:
        deaths: how many processes ended while they had this case.
        owner: who has it, where it was not taken.
        taken: whether it was.
    """

    taken: bool
    deaths: int = 0
    owner: str = ""


class ObjectClaims:
    """The claims of this process; a context manager that gives back what it still holds.

    Args:
        out: the folder of results.
        lease_s: seconds until a claim that is not renewed expires.
        gone: names of workers that are known to have ended: their claims are taken over at once.
        counts: whether the end of this process counts against its cases; a cluster counts for itself.
        worker: the name of this process.
    """

    def __init__(
        self,
        out: OutputFolder,
        *,
        lease_s: float = LEASE_SECONDS,
        gone: Collection[str] = (),
        counts: bool = True,
        worker: str = "",
    ) -> None:
        self.out, self.lease_s, self.gone, self.counts = out, lease_s, set(gone), counts
        self.worker = worker or f"worker-{secrets.token_hex(6)}"
        self._held: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._beat = threading.Thread(target=self._beating, name="resvox-claims", daemon=True)

    def __enter__(self) -> ObjectClaims:
        self._beat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._beat.join()
        for case in list(self._held):
            with contextlib.suppress(StorageError):  # it expires
                self.release(case)

    def take(self, case: str, *, if_deaths: bool = True) -> Held:
        """Claim a case.

        Args:
            case: its name.
            if_deaths: False leaves a case that has ended a process untouched, and reports its deaths.
        """
        place = self.out.place("claims", case)
        deaths = 0
        for _ in range(3):  # a claim that expired is removed once or twice before one process gets it
            if self._create(case, deaths):
                return Held(taken=True, deaths=deaths)
            found = self.out.record("claims", case)
            if found is None:
                continue
            if not self._is_over(found):
                return Held(taken=False, owner=str(found.get("words") or found.get("worker") or "another process"))
            deaths = int(found.get("deaths") or 0) + int(bool(found.get("counts", True)))
            if deaths and not if_deaths:
                return Held(taken=False, deaths=deaths)
            again = self.out.record("claims", case)
            if again is not None and again.get("token") == found.get("token"):
                delete(place)
        return Held(taken=False, owner="another process")

    def release(self, case: str) -> None:
        """Give a claim back; one that was taken over in the meantime is left to its new holder."""
        with self._lock:
            own = self._held.pop(case, None)
        if own is None:
            return
        late = time.time() > own["expires"]
        if late and (self.out.record("claims", case) or {}).get("token") != own["token"]:
            return
        delete(self.out.place("claims", case))

    def sweep(self) -> None:
        """Remove what processes left that ended between a result and its claim."""
        for place, _ in listing(self.out.hidden / "claims/"):
            found = parsed(read_bytes(place) or b"{}")
            case = str(found.get("case"))
            if found and self._is_over(found) and self.out.record("done", case):
                delete(place)

    def _create(self, case: str, deaths: int) -> bool:
        own = {
            "case": case,
            "token": secrets.token_hex(8),
            "worker": self.worker,
            "counts": self.counts,
            "deaths": deaths,
            "expires": time.time() + self.lease_s,
            **describe_process(),
        }
        if not create(self.out.place("claims", case), json.dumps(own).encode()):
            return False
        with self._lock:
            self._held[case] = own
        return True

    def _is_over(self, found: dict[str, Any]) -> bool:
        return found.get("worker") in self.gone or is_over(found)

    def _beating(self) -> None:
        while not self._end.wait(self.lease_s / BEATS):
            with self._lock:
                held = list(self._held.items())
            for case, own in held:
                renewed = {**own, "expires": time.time() + self.lease_s}
                with self._lock:
                    if case not in self._held:
                        continue
                    # Written within the lock: a release in between would leave a claim without a holder.
                    with contextlib.suppress(StorageError, OSError):  # the next beat tries again
                        write_bytes(self.out.place("claims", case), json.dumps(renewed).encode())
                        self._held[case] = renewed


def is_over(found: Mapping[str, Any]) -> bool:
    """Whether a claim has expired, or its process on this machine has ended."""
    try:
        expires = float(found.get("expires", 0))
    except (TypeError, ValueError):
        expires = 0.0
    return time.time() > expires or is_gone(found)
