"""Keras's answers on one backend against PyTorch's: ``KERAS_BACKEND=jax python twin_runner.py ANSWERS RESULT [full]``.

One process runs every case, because starting a backend costs seconds. Writes RESULT, a JSON object: for
each case its differences and counts, for each check of twin_checks.py what it returned, or a traceback.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from twin_cases import CASES, Case, answer_key, everything_full, random_image, random_tensors, relative_difference
from twin_checks import CHECKS

import resvox.keras
from resvox.keras.tensors import fill, tensors_of


def compare(case: Case, answers: Path) -> dict[str, Any]:
    """Differences of output and maps at every size, and whether counts and the tensors' way back are exact."""
    blueprint = case.blueprint()
    model = resvox.keras.build(blueprint)
    tensors = random_tensors(blueprint)
    fill(model, tensors)
    back = tensors_of(model)
    trainable = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    whole = keras.Model(model.inputs[0], [*model.outputs, *model.pyramid_outputs.values()])
    names = [*(f"output{number or ''}" for number in range(len(model.outputs))), *model.pyramid_outputs]
    differences: dict[str, dict[str, float]] = {}
    for size in case.sizes:
        wanted = np.load(answers / f"{answer_key(case, size)}.npz")
        found = whole(random_image(blueprint, size, case.image_seed), training=False)
        assert sorted(names) == sorted(wanted.files), (names, wanted.files)
        differences["x".join(map(str, size))] = {
            name: relative_difference(keras.ops.convert_to_numpy(x), wanted[name])
            for name, x in zip(names, found, strict=True)
        }
    return {
        "differences": differences,
        "trainable": [trainable, blueprint.parameters],
        "all": [model.count_params(), blueprint.parameters + blueprint.statistics],
        "bit_identical": list(back) == list(tensors) and all(np.array_equal(back[n], tensors[n]) for n in tensors),
        "names_in_order": list(back) == list(blueprint.tensors()),
    }


def run(cases: list[Case], answers: Path, *, full: bool) -> dict[str, Any]:
    """Every case's result; one that fails does not stop the others."""
    results = {}
    for case in cases:
        begin = time.process_time()
        try:
            results[case.id] = compare(case, answers)
        except Exception:
            results[case.id] = {"failed": traceback.format_exc()[-3000:]}
        results[case.id]["seconds"] = round(time.process_time() - begin, 2)
        if full:  # thin networks may wait for the collector
            gc.collect()
    return results


def inspect(answers: Path) -> dict[str, Any]:
    """Every check's result."""
    results: dict[str, Any] = {}
    for name, check in CHECKS.items():
        begin = time.process_time()
        keras.utils.set_random_seed(0)  # a drawn network whose ReLUs are all 0 trains nothing behind them
        with tempfile.TemporaryDirectory() as folder:
            try:
                results[name] = {"returned": check(Path(folder), answers)}
            except (Exception, pytest.fail.Exception):
                results[name] = {"failed": traceback.format_exc()[-3000:]}
        results[name]["seconds"] = round(time.process_time() - begin, 2)
    return results


def versions() -> dict[str, str]:
    """What computed this."""
    backend = keras.backend.backend()
    module = importlib.import_module(backend)
    return {"keras": keras.__version__, backend: module.__version__, "numpy": np.__version__}


if __name__ == "__main__":
    answers, result = Path(sys.argv[1]), Path(sys.argv[2])
    if sys.argv[3:] == ["full"]:
        found = {"versions": versions(), "cases": run(everything_full(), answers, full=True)}
    else:
        cases = run(CASES[keras.backend.backend()], answers, full=False)
        found = {"versions": versions(), "cases": cases, "checks": inspect(answers)}
    result.write_text(json.dumps(found))
