"""How long Keras models take to build, beside medicai's, in one run; writes benchmarks/keras_build_time.md.

medicai has the import name of the drop-in package, so it is installed in a separate environment, whose Python is
``MEDICAI_PYTHON``; without it nothing is compared or written. The same program runs in both,
alternately, each time in a new process; the minimum of its times counts.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = tempfile.gettempdir()  # where nothing to be imported lies
PAGE = ROOT / "benchmarks" / "keras_build_time.md"
ROUNDS = 2
BACKENDS = ("torch", "jax", "tensorflow")
PROGRAM = """
import json, time
import keras
import medicai.models as m

MAKE = {
    "ResNet18 2D": lambda: m.ResNet18(input_shape=(224, 224, 3)),
    "ResNet50 2D": lambda: m.ResNet50(input_shape=(224, 224, 3)),
    "ResNet50 3D": lambda: m.ResNet50(input_shape=(64, 64, 64, 1), num_classes=3),
    "ResNet50vd 2D": lambda: m.ResNet50vd(input_shape=(224, 224, 3)),
    "ResNet152v2 3D": lambda: m.ResNet152v2(input_shape=(64, 64, 64, 1), num_classes=3),
    "ResNeXt101 2D": lambda: m.ResNeXt101(input_shape=(224, 224, 3)),
    "UNet on resnet18 3D": lambda: m.UNet(encoder_name="resnet18", input_shape=(64, 64, 64, 4), num_classes=3),
}
seconds = {}
for name, make in MAKE.items():
    for _ in range(2):
        keras.backend.clear_session()
        start = time.perf_counter()
        model = make()
        spent = time.perf_counter() - start
        seconds[name] = [*seconds.get(name, []), spent]
        del model
print(json.dumps({"seconds": seconds, "home": m.__file__, "keras": keras.__version__}))
"""


def run(python: str, paths: list[str], backend: str) -> dict[str, object]:
    """The results of the program in one environment."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([python, "-c", PROGRAM], env=environment, capture_output=True, text=True, cwd=HOME)
    if done.returncode:
        raise SystemExit(f"{python} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def least(rounds: list[dict[str, object]], name: str, turn: int) -> float:
    """The minimum time of a model over all rounds: its first construction in a process (0), or its second (1)."""
    return min(each["seconds"][name][turn] for each in rounds)  # type: ignore[index]


def table(theirs_python: str, backend: str) -> list[str]:
    """The rows of one backend."""
    ours, theirs = [], []
    for _ in range(ROUNDS):  # alternately, so that other work on the machine affects both
        ours.append(run(sys.executable, [str(ROOT / "drop-in" / "src"), str(ROOT / "src")], backend))
        theirs.append(run(theirs_python, [], backend))
    if str(ROOT) in str(theirs[0]["home"]):
        raise SystemExit(f"MEDICAI_PYTHON={theirs_python} finds our drop-in, not medicai")
    lines = []
    for name in ours[0]["seconds"]:  # type: ignore[attr-defined]
        pairs = [(least(ours, name, turn), least(theirs, name, turn)) for turn in (0, 1)]
        lines.append(
            f"| {backend} | {name} | " + " | ".join(f"{a:.2f} | {b:.2f} | {a / b:.2f}" for a, b in pairs) + " |"
        )
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Measure, print and write."""
    theirs = os.environ.get("MEDICAI_PYTHON", "")
    if not theirs:
        print("keras_build_time: set MEDICAI_PYTHON to a Python with medicai 0.0.4 to compare; nothing measured")
        return
    backends = sys.argv[1:] or BACKENDS
    rows = [line for backend in backends for line in table(theirs, backend)]
    head = (
        f"# Building Keras models, beside medicai 0.0.4\n\nWritten by `benchmarks/keras_build_time.py` on "
        f"{date.today()}: Python {platform.python_version()}, Keras {version('keras')}, {os.cpu_count()} cores. "
        "Seconds of a model's first construction in a process, when a backend compiles, and of "
        f"its\nsecond; each the minimum of {ROUNDS} processes, both libraries alternately, on a shared machine. "
        "resvox draws He's normal\nvalues, medicai Glorot's uniform ones, which are cheaper to draw.\n\n"
        "| backend | model | resvox, first | medicai | ratio | resvox, second | medicai | ratio |\n"
        "|---|---|---:|---:|---:|---:|---:|---:|\n"
    )
    PAGE.write_text(head + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
