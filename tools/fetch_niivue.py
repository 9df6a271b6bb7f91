"""Put NiiVue's script into the package: ``python tools/fetch_niivue.py``.

The interactive page of `resvox view` is drawn by NiiVue (BSD-2-Clause). Its script is taken from its npm package when
resvox is built or set up, checked against a digest, and is not kept in the repository. Needs ``npm``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "@niivue/niivue@0.69.0"
MEMBER = "package/dist/niivue.umd.js"
SHA256 = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"
TARGET = Path(__file__).resolve().parents[1] / "src" / "resvox" / "viewer" / "assets" / "niivue.umd.js"


def main() -> int:
    """Fetch the script unless it is there; 0 on success."""
    if TARGET.is_file() and hashlib.sha256(TARGET.read_bytes()).hexdigest() == SHA256:
        return 0
    npm = shutil.which("npm")
    if npm is None:
        print("error: npm is not installed; expected Node.js with npm, which holds NiiVue's package", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([npm, "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as packed:
            member = packed.extractfile(MEMBER)
            assert member is not None, f"{MEMBER} is not in {PACKAGE}"
            content = member.read()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        print(f"error: {MEMBER} of {PACKAGE} has SHA-256 {digest}; expected {SHA256}", file=sys.stderr)
        return 1
    temporary = TARGET.with_name(f".{TARGET.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, TARGET)
    return 0


if __name__ == "__main__":
    sys.exit(main())
