"""Identifiers of licences that a hub knows."""

from __future__ import annotations

from resvox.errors import WeightsError, suggest

LICENCES = (
    "apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "isc", "zlib", "unlicense",
    "mpl-2.0", "epl-2.0", "eupl-1.2", "ecl-2.0", "agpl-3.0", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1",
    "lgpl-3.0", "openrail", "cc", "cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-3.0",
    "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cdla-permissive-2.0",
    "cdla-sharing-1.0", "odbl", "odc-by", "pddl", "etalab-2.0", "other", "unknown",
)  # fmt: skip


def licence_identifier(text: str) -> str:
    """The identifier as a hub writes it.

    Raises:
        WeightsError: one that it does not know.
    """
    name = text.strip().lower()
    if name in LICENCES:
        return name
    hint = suggest(name, LICENCES)
    raise WeightsError(
        f"the licence {text!r}",
        expected=f"one of {', '.join(LICENCES[:6])}, cc-by-4.0, cc-by-nc-4.0, ..., other",
        fix=hint or "--licence other, with the terms in a file of the repository",
    )
