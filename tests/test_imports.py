"""The import law: packages import in one direction. Read from the source, so imports within functions count too."""

import ast
import functools
import importlib
import pathlib
import re
import subprocess
import sys
import textwrap

import pytest

import resvox
from resvox.blueprint.tasks import TASKS

SOURCE = pathlib.Path(resvox.__file__).parent
PAGE = pathlib.Path(__file__).parents[1] / "docs" / "architecture.md"

# What each package (or module beside them) imports from others. Exact: an entry that is not used is an error, too.
# docs/architecture.md has the same table; `python tests/test_imports.py` prints the rows for both.
MAY_CALL = {
    "errors": set(),
    "_version": set(),
    "files": set(),
    "machine": {"errors"},
    "digests": {"errors", "files", "machine"},
    "lazy": set(),
    "locks": set(),
    "regions": {"errors"},
    "blueprint": {"errors"},
    "cards": {"errors", "regions"},
    "catalog": {"errors", "blueprint"},
    "storage": {"errors", "lazy", "files", "machine", "locks"},
    "hub": {"errors", "_version", "files", "storage"},
    "torch": {"errors", "blueprint", "catalog"},
    "keras": {"errors", "files", "blueprint", "catalog"},
    "walk": {"errors", "blueprint", "catalog"},
    "factory": {"errors", "blueprint", "catalog", "torch", "keras"},
    "weights": {"errors", "lazy", "_version", "files", "hub", "blueprint", "catalog", "torch", "keras", "factory"},
    "volumes": {"errors", "lazy", "files", "machine"},
    "datasets": {"errors", "lazy", "regions", "volumes"},
    "preprocessing": {"errors", "machine", "volumes"},
    "inference": {"errors", "lazy", "_version", "digests", "files", "machine", "torch", "volumes", "preprocessing"},
    "evaluation": {"errors", "lazy", "files", "machine", "volumes", "datasets"},
    "training": {"errors", "lazy", "files", "locks", "machine", "hub", "blueprint", "cards", "catalog", "factory",
                 "weights", "volumes", "datasets", "preprocessing", "inference", "evaluation"},
    "prediction": {"errors", "_version", "files", "machine", "locks", "digests", "regions", "hub", "blueprint", "cards",
                   "weights", "volumes", "datasets", "preprocessing", "inference", "training", "delivery", "viewer"},
    "fleet": {"errors", "_version", "files", "machine", "locks", "storage", "volumes", "prediction"},
    "delivery": {"errors", "_version", "files", "volumes", "datasets", "viewer"},
    "viewer": {"errors", "lazy", "_version", "files", "volumes", "preprocessing"},
    "server": {"errors", "_version", "files", "volumes", "prediction"},
    "workflow": {"errors", "_version", "files", "machine", "hub", "cards", "weights", "volumes", "datasets",
                 "inference", "evaluation", "training", "prediction", "fleet", "delivery", "viewer", "server",
                 "storage"},
    "cli": {"errors", "_version", "machine", "catalog", "inference", "prediction", "fleet", "walk", "workflow"},
    "__main__": {"cli"},
    "__init__": {"_version", "blueprint", "catalog", "walk", "factory", "weights", "viewer"},
}  # fmt: skip
# The one call against the order: a notebook shows a Volume by the viewer, which is loaded by name when it does.
SHOWN_BY = {"volumes": {"viewer"}}
DOTTED = re.compile(r"resvox(\.[a-z_0-9]+)+")
STANDARD = set(sys.stdlib_module_names) | {"resvox"}
MAY_IMPORT_TORCH = (
    "torch/", "training/", "evaluation/", "inference/device/", "inference/engines/",
    "preprocessing/nnunet/torch_resampling.py",
    "preprocessing/monai/torch_places.py",
)  # fmt: skip
TORCH = {"torch", "torchvision", "monai", "lightning_fabric", "lightning"}
KERAS = {"keras", "tensorflow", "jax"}


def files():
    return sorted(SOURCE.rglob("*.py"))


def package_of(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def is_for_types_only(node):
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def running(node):
    """The nodes below one, less what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if not is_for_types_only(child):
            yield child
            yield from running(child)


def names_a_module(text):
    """Whether a text is the dotted name of a module of resvox, not of a function such as ``resvox.create_model``."""
    return DOTTED.fullmatch(text) is not None and text.split(".")[1] in MAY_CALL


def imported(tree):
    """Dotted names of the modules that a source file imports when it runs, wherever the import stands.

    A string that is such a name counts: tables name modules that are imported when their row is used.
    """
    for node in running(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and names_a_module(node.value):
            yield node.value
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "resvox":
                yield from (f"resvox.{alias.name}" for alias in node.names)
            else:
                yield node.module


def called_by(package, tree):
    """The other packages that a source file of a package imports."""
    called = {name.split(".")[1] for name in imported(tree) if name.startswith("resvox.")}
    return called - SHOWN_BY.get(package, set()) - {package}


@functools.cache
def called_by_package():
    """The same for all files of each package."""
    called = {}
    for path in files():
        package = package_of(path)
        called.setdefault(package, set()).update(called_by(package, parsed(path)))
    return called


def packages(tree):
    return {name.split(".")[0] for name in imported(tree)}


@functools.cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def test_every_package_has_its_line_in_the_table():
    assert {package_of(path) for path in files()} == set(MAY_CALL)


@pytest.mark.parametrize("package", sorted(MAY_CALL))
def test_a_package_imports_what_the_table_allows(package):
    wrong = {
        str(path): found
        for path in files()
        if package_of(path) == package and (found := called_by(package, parsed(path)) - MAY_CALL[package])
    }
    assert wrong == {}


@pytest.mark.parametrize("package", sorted(MAY_CALL))
def test_every_allowance_is_used(package):
    unused = MAY_CALL[package] - called_by_package()[package]
    assert unused == set(), f"remove {sorted(unused)} from the line of {package!r} here and in {PAGE.name}"


def table_of_page():
    """The table of docs/architecture.md: {package: what it imports}."""
    rows = re.findall(r"^\| `(\w+)` \| .*? \| (.*) \|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {package: set(re.findall(r"`(\w+)`", called)) for package, called in rows}


def test_the_page_on_the_architecture_has_the_same_table():
    private = {"__init__", "__main__", "_version"}
    wanted = {package: called - private for package, called in MAY_CALL.items() if package not in private}
    assert table_of_page() == wanted


def test_each_row_of_the_page_imports_only_rows_above_it():
    above = set()
    for package, called in table_of_page().items():
        assert called <= above, f"{package!r} stands above {sorted(called - above)} in {PAGE.name}"
        above.add(package)


def other_tasks(path, names):
    """Imports of a file in a task's folder, or named after a task, that name another task."""
    parts = {part.removesuffix(".py") for part in path.relative_to(SOURCE).parts}
    own = parts & set(TASKS)
    return [name for name in names if own and set(name.split(".")) & set(TASKS) - own]


def test_a_task_never_imports_another_task():
    wrong = {str(path): found for path in files() if (found := other_tasks(path, imported(parsed(path))))}
    assert wrong == {}
    planted = SOURCE / "training" / "regression" / "task.py"
    assert other_tasks(planted, ["resvox.training.segmentation.plan", "resvox.training.regression.plan"]) == [
        "resvox.training.segmentation.plan"
    ]


def test_no_module_of_the_package_imports_resvox_itself():
    """The law above would not see what such a module calls through the lazy names of ``resvox/__init__.py``."""
    guilty = [str(path) for path in files() if "resvox" in imported(parsed(path))]
    assert guilty == []
    assert "resvox" in imported(ast.parse("def late():\n    import resvox"))


def test_the_table_has_no_circle():
    left = {package: set(called) for package, called in MAY_CALL.items()}
    while left:
        free = {package for package, called in left.items() if not called & set(left)}
        assert free, f"a circle among {sorted(left)}"
        left = {package: called for package, called in left.items() if package not in free}


def test_the_blueprint_needs_the_standard_library_alone():
    for path in files():
        if package_of(path) in ("blueprint", "cards", "errors", "_version", "__init__"):
            assert packages(parsed(path)) <= STANDARD, path


def test_only_some_packages_import_the_frameworks():
    for path in files():
        inside = path.relative_to(SOURCE).as_posix()
        if not inside.startswith(MAY_IMPORT_TORCH):
            assert not packages(parsed(path)) & TORCH, inside
        if not inside.startswith("keras/"):
            assert not packages(parsed(path)) & KERAS, inside


@pytest.mark.parametrize(
    ("source", "called", "found"),
    [
        ("from resvox.torch import build", ["torch"], set()),
        ("def late():\n    import resvox.training.loop as loop", ["training"], set()),
        ("try:\n    from resvox import keras\nexcept ImportError:\n    pass", ["keras"], set()),
        ("if TYPE_CHECKING:\n    from resvox.torch import build", [], set()),
        ("from resvox.errors import ResvoxError\nimport torch.nn as nn", [], {"torch"}),
    ],
)
def test_the_reader_of_imports_sees_a_planted_one(source, called, found):
    tree = ast.parse(source)
    assert called_by("catalog", tree) - MAY_CALL["catalog"] == set(called)
    assert packages(tree) & TORCH == found


def loaded_after(statement, modules):
    """Which of the modules a fresh interpreter holds after a statement."""
    code = f"import sys\n{statement}\nprint(*sorted(set({sorted(modules)!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": str(SOURCE.parent)},
    )  # fmt: skip
    return done.stdout.split()


@pytest.mark.parametrize(
    "statement",
    [
        "import resvox",
        "import resvox; resvox.list_models(); resvox.get_blueprint('unet', spatial_dims=3).flops((8, 8, 8))",
        "import resvox; resvox.create_model, resvox.walkthrough",
        "import resvox.volumes, resvox.preprocessing",
    ],
)
def test_no_framework_is_loaded_before_it_is_asked_for(statement):
    assert loaded_after(statement, TORCH | KERAS) == []


def test_blueprint_and_catalog_load_no_numpy():
    statement = "import resvox.blueprint, resvox.catalog; resvox.catalog.get_blueprint('resnet50').to_json()"
    assert loaded_after(statement, {"numpy", "rich", "scipy"}) == []


def test_a_torch_model_loads_no_keras_and_a_planted_import_is_seen():
    statement = "import resvox; resvox.create_model('resnet10', widths=(1, 1, 1, 1), stem_width=1)"
    assert loaded_after(statement, {"torch", "keras"}) == ["torch"]


def test_public_names_resolve():
    assert resvox.__all__ == sorted(resvox.__all__)
    for name in resvox.__all__:
        assert getattr(resvox, name) is not None
        assert name in dir(resvox)
    for package in ("blueprint", "catalog", "errors", "torch", "weights", "volumes"):
        module = importlib.import_module(f"resvox.{package}")
        assert getattr(resvox, package) is module
        for name in getattr(module, "__all__", ()):
            assert hasattr(module, name), f"resvox.{package}.{name}"
    with pytest.raises(AttributeError, match="module 'resvox' has no attribute 'creat_model'"):
        _ = resvox.creat_model


LAZY = sorted(
    path.parent.relative_to(SOURCE).as_posix().replace("/", ".")
    for path in SOURCE.rglob("__init__.py")
    if "lazy_names(" in path.read_text(encoding="utf-8")
)


def test_packages_with_such_names_are_found():
    assert {"inference", "training", "volumes.dicom"} <= set(LAZY)


@pytest.mark.parametrize("package", LAZY)
def test_names_that_are_imported_when_first_used_are_listed_and_found(package):
    module = importlib.import_module(f"resvox.{package}")
    for name in module.__all__:
        assert name in dir(module), name
        assert getattr(module, name) is not None, name
    with pytest.raises(AttributeError, match=f"module 'resvox.{package}' has no attribute 'no_such_name'"):
        _ = module.no_such_name


def test_the_public_names_are_those_of_the_contract():
    contract = {"list_models", "create_model", "get_blueprint", "walkthrough", "save_model", "load_model",
                "load_weights"}  # fmt: skip
    assert contract <= set(resvox.__all__)


if __name__ == "__main__":
    for name, called in called_by_package().items():
        print(f"    {name!r}: {{{', '.join(map(repr, sorted(called)))}}},".replace("'", '"'))
    for name, called in called_by_package().items():
        print(f"| `{name}` | | {', '.join(f'`{each}`' for each in sorted(called) if not each.startswith('_'))} |")
