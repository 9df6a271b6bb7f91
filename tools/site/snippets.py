"""Run the Python blocks of a page, and put below each block what it printed.

The blocks of a page are one program, as in ``tests/docs``: later blocks use the names of earlier ones. A block that
raises fails the build.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

BLOCK = re.compile(r"^```python\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
SHOWN = 60  # lines of an output


def with_outputs(text: str, page: str) -> str:
    """The page with an output block below every block that printed something.

    Raises:
        RuntimeError: a block that raised.
    """
    blocks = BLOCK.findall(text)
    if not blocks:
        return text
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "MPLBACKEND": "Agg", "COLUMNS": "110", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, str(Path(__file__).resolve())],
            input=json.dumps({"page": page, "blocks": blocks}),
            capture_output=True,
            text=True,
            cwd=folder,
            env=environment,
        )
    if done.returncode:
        raise RuntimeError(f"{page}: a Python block failed\n{done.stderr[-4000:]}")
    outputs = iter(json.loads(done.stdout.splitlines()[-1]))
    return BLOCK.sub(lambda match: match.group() + _shown(next(outputs)), text)


def _shown(output: str) -> str:
    lines = output.rstrip().splitlines()
    if not lines:
        return ""
    if len(lines) > SHOWN:
        lines = [*lines[:SHOWN], f"... ({len(lines) - SHOWN} more lines)"]
    return "\n".join(["", '```{ .text .output title="Output" }', *lines, "```", ""])


def main() -> None:
    """Run the blocks that come as JSON on standard input; print their outputs as JSON."""
    asked = json.load(sys.stdin)
    names: dict[str, object] = {"__name__": "__main__"}
    outputs = []
    for number, block in enumerate(asked["blocks"]):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, f"{asked['page']}, block {number + 1}", "exec"), names)
        outputs.append(printed.getvalue())
    print(json.dumps(outputs))


if __name__ == "__main__":
    main()
