"""What loading did: tensors used, dropped, adapted and left unchanged, and what the file does not record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What :func:`resvox.load_weights` did.

    Attributes:
        peer: whose weights they are, such as ``"torchvision-style"``.
        source: the file, or "a state dict".
        used: our names of the tensors that were filled.
        dropped: the source's names that were left out on purpose, each with the reason.
        adapted: our names of tensors that were changed on the way in, each with how.
        kept: our names that stay as they were, each with the reason.
        unspecified: what the source does not record and was taken from the model.
        wrappers: prefixes and containers around the names that were taken off.
    """

    peer: str
    source: str
    used: tuple[str, ...]
    dropped: dict[str, str] = field(default_factory=dict)
    adapted: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    unspecified: tuple[str, ...] = ()
    wrappers: tuple[str, ...] = ()

    @property
    def untold(self) -> tuple[str, ...]:
        """The earlier name of ``unspecified``; model files keep it as their key."""
        return self.unspecified

    def __str__(self) -> str:
        lines = [f"{len(self.used)} tensors from {self.source} ({self.peer})"]
        for title, names in (("adapted", self.adapted), ("dropped", self.dropped), ("left as they were", self.kept)):
            for reason, count in _counted(names):
                lines.append(f"  {title}: {count} ({reason})")
        lines += [f"  not recorded in the source, taken from the model: {each}" for each in self.unspecified]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the reasons with how many tensors each, not every name."""
        return {
            "peer": self.peer,
            "source": self.source,
            "used": len(self.used),
            "dropped": dict(_counted(self.dropped)),
            "adapted": dict(_counted(self.adapted)),
            "kept": dict(_counted(self.kept)),
            "untold": list(self.unspecified),
        }


def _counted(names: dict[str, str]) -> list[tuple[str, int]]:
    reasons = list(names.values())
    return [(reason, reasons.count(reason)) for reason in dict.fromkeys(reasons)]
