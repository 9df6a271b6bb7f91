"""The tiny datasets of the training tests, and a writer of files for them."""

from __future__ import annotations

from training.conftest import caches_in_runs, folder_of, image_writer, scan_maker

__all__ = ["caches_in_runs", "folder_of", "image_writer", "scan_maker"]
