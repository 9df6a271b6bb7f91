"""A series and its label map, read once."""

from __future__ import annotations

import pytest
from delivery.series import NAMES, labels_on, write_series

from resvox.delivery.naming import label_set
from resvox.delivery.source import read_source


@pytest.fixture
def case(tmp_path):
    """(source, label map on its grid, labels)."""
    source = read_source(write_series(tmp_path / "series"))
    return source, labels_on(source.grid), label_set(NAMES)
