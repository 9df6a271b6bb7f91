"""Build the wheels and source archives, install them in fresh environments, and use what is installed.

    python tools/packages/run.py                 # all
    python tools/packages/run.py core keras      # some of them: the core, an extra, or drop-in

There is one environment with the core alone, and for each extra one that sees the core's packages and its own, so an
extra that needs something which it does not name fails here. `make test-packages` calls this.
"""

from __future__ import annotations

import argparse
import os
import runpy
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # build needs it there

ROOT = Path(__file__).resolve().parents[2]
CHECKS = Path(__file__).resolve().parent / "checks.py"
LARGEST_WHEEL = 5 * 10**6  # bytes
NEEDED = ("resvox/py.typed", "resvox/viewer/assets/niivue.umd.js", "resvox/viewer/assets/niivue.LICENSE.txt",
          "resvox/viewer/assets/page.js", "resvox/viewer/assets/page.html")  # fmt: skip
NEEDED_OF_DROP_IN = ("medicai/py.typed", "resnet3d/py.typed")
FOR_DEVELOPMENT = {"test", "all"}  # extras that users have no need of
# Extras of which files alone are used; their documentation installs them without dependencies.
WITHOUT_DEPENDENCIES = {"unseen": "TPTBox"}
# Extras whose packages want older versions than constraints.txt names of packages that no other part has need of.
WITHOUT_CONSTRAINTS = {"s3", "gcs", "azure", "ray"}


@dataclass(frozen=True, kw_only=True)
class Built:
    """The files of a distribution."""

    wheel: Path
    source: Path


def run(*words: object, cwd: Path | None = None) -> str:
    """Run a command; its output, or its error as an exception's text."""
    # what is installed is used, not a checkout that PYTHONPATH names
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True, env=clean)
    if done.returncode:
        raise SystemExit(f"$ {' '.join(map(str, words))}\n{done.stdout}{done.stderr}\nexit code {done.returncode}")
    return done.stdout


def build(folder: Path, out: Path) -> Built:
    """The source archive of a distribution, and the wheel that is built from the archive."""
    shutil.rmtree(out, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", out, folder)
    (wheel,), (source,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return Built(wheel=wheel, source=source)


def check_files(built: Built, needed: tuple[str, ...], version: str) -> None:
    """The wheel is small and complete, and has the version of the source."""
    size = built.wheel.stat().st_size
    if size > LARGEST_WHEEL:
        raise SystemExit(f"{built.wheel.name}: {size:,} bytes; expected at most {LARGEST_WHEEL:,}")
    names = zipfile.ZipFile(built.wheel).namelist()
    missing = [name for name in needed if name not in names]
    if missing or f"-{version}-" not in built.wheel.name:
        raise SystemExit(f"{built.wheel.name}: without {missing}; expected version {version}")
    top = {name.split("/")[0] for name in names}
    with tarfile.open(built.source) as archive:
        members = len(archive.getnames())
    print(f"{built.wheel.name}: {size / 1e6:.2f} MB, {len(names)} files in {', '.join(sorted(top))}")
    print(f"{built.source.name}: {built.source.stat().st_size / 1e6:.2f} MB, {members} files")


def environment(folder: Path, *requirements: object, above: Path | None = None, pinned: bool = True) -> Path:
    """A fresh environment with requirements installed; the Python in it. It also sees the packages of ``above``."""
    venv.EnvBuilder(with_pip=True, clear=True).create(folder)
    python = folder / "bin" / "python"
    if above is not None:
        inside = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        below = Path(run(above, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        (inside / "core.pth").write_text(f"{below}\n")
    pins = ["-c", ROOT / "constraints.txt"] if pinned else []
    run(python, "-m", "pip", "--disable-pip-version-check", "install", "-q", *pins, *requirements)
    return python


def requirements_of(part: str, resvox: Built, drop_in: Built) -> list[object]:
    """What pip installs for a part, on top of the core."""
    if part == "drop-in":
        return [f"{resvox.wheel}[keras]", drop_in.wheel]
    if part in WITHOUT_DEPENDENCIES:
        return ["--no-deps", WITHOUT_DEPENDENCIES[part]]
    return [resvox.wheel if part == "core" else f"{resvox.wheel}[{part}]"]


def extras() -> list[str]:
    """The extras of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [name for name in project["optional-dependencies"] if name not in FOR_DEVELOPMENT]


def main() -> int:
    """Build, install and check the parts that are named on the command line."""
    known = ["core", *extras(), "drop-in"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(known)}")
    parser.add_argument("--keep-core", action="store_true", help="use the core's environment of an earlier call")
    asked = parser.parse_args()
    unknown = sorted(set(asked.parts) - set(known))
    if unknown:
        parser.error(f"unknown parts {', '.join(unknown)}")
    parts = asked.parts or known
    resvox, drop_in = build(ROOT, ROOT / "dist"), build(ROOT / "drop-in", ROOT / "dist" / "drop-in")
    version = runpy.run_path(str(ROOT / "src" / "resvox" / "_version.py"))["__version__"]
    check_files(resvox, NEEDED, version)
    check_files(drop_in, NEEDED_OF_DROP_IN, version)
    below = ROOT / "dist" / "environments"
    core = below / "core" / "bin" / "python"
    if not (asked.keep_core and core.exists()):
        core = environment(below / "core", resvox.wheel)
    else:
        run(core, "-m", "pip", "install", "-q", "--no-deps", "--force-reinstall", resvox.wheel)
    for part in parts:
        wanted = requirements_of(part, resvox, drop_in)
        pinned = part not in WITHOUT_CONSTRAINTS
        python = core if part == "core" else environment(below / part, *wanted, above=core, pinned=pinned)
        print(f"{part}: {run(python, CHECKS, part, cwd=below).strip()}")
        if part != "core":
            shutil.rmtree(below / part)
    print(f"{len(parts)} parts passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
