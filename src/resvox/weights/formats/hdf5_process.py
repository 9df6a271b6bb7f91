"""The process that reads one HDF5 file: ``python -m resvox.weights.formats.hdf5_process FILE RESULT NAME``.

RESULT becomes a safetensors file. A refusal is printed as JSON, [got, expected, fix].
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from resvox.errors import WeightsError
from resvox.weights.formats.hdf5 import REFUSED, read_here

if __name__ == "__main__":
    from safetensors.numpy import save_file

    try:
        found = read_here(Path(sys.argv[1]), Path(sys.argv[3]))
    except WeightsError as error:
        print(json.dumps([error.got, error.expected, error.fix]))
        sys.exit(REFUSED)
    save_file({name: np.ascontiguousarray(value) for name, value in found.items()}, sys.argv[2])
