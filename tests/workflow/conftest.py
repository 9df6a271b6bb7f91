"""The small scans and models of the prediction tests."""

from prediction.conftest import engine_cache, make_model, threshold_engine, write_scan

__all__ = ["engine_cache", "make_model", "threshold_engine", "write_scan"]
