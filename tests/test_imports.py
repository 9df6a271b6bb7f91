"""Imports go one way, as docs/architecture.md says; read from the source, so lazy imports count too."""

import ast
import importlib
import pathlib
import re
import subprocess
import sys
import textwrap

import pytest

import resvox

SOURCE = pathlib.Path(resvox.__file__).parent

# what the code of each room may load when it runs; a room may always call itself
MAY_CALL = {
    "errors": set(),
    "_version": set(),
    "files": set(),
    "machine": {"errors"},
    "locks": set(),
    "blueprint": {"errors"},
    "cards": {"errors"},
    "catalog": {"errors", "blueprint"},
    "torch": {"errors", "blueprint", "catalog"},
    "keras": {"errors", "files", "blueprint", "catalog"},
    "walk": {"errors", "blueprint", "catalog"},
    "factory": {"errors", "blueprint", "catalog", "torch", "keras"},
    "weights": {"errors", "_version", "blueprint", "catalog", "torch", "keras", "factory", "files"},
    "volumes": {"errors", "files", "machine"},
    "datasets": {"errors", "files", "volumes"},
    "preprocessing": {"errors", "volumes"},
    "inference": {"errors", "files", "machine", "torch", "volumes", "preprocessing", "weights"},
    "evaluation": {"errors", "files", "volumes", "datasets"},
    "training": {"errors", "files", "locks", "machine", "blueprint", "cards", "catalog", "factory", "weights",
                 "volumes", "datasets", "preprocessing", "inference", "evaluation"},
    "prediction": {"errors", "_version", "files", "locks", "machine", "blueprint", "cards", "weights", "volumes",
                   "datasets", "preprocessing", "inference", "evaluation", "training", "viewer"},
    "viewer": {"errors", "_version", "files", "volumes", "preprocessing", "evaluation", "walk"},
    "workflow": {"errors", "_version", "files", "machine", "blueprint", "cards", "catalog", "factory", "weights",
                 "volumes", "datasets", "preprocessing", "inference", "evaluation", "training", "prediction", "viewer"},
    "cli": {"errors", "_version", "catalog", "walk", "workflow"},
    "__main__": {"cli"},
    "__init__": {"_version", "blueprint", "catalog", "factory", "viewer", "walk", "weights"},
}  # fmt: skip
# The one call against the order: a notebook shows a Volume by the viewer, which is loaded by name when it does.
SHOWN_BY = {"volumes": {"viewer"}}
DOTTED = re.compile(r"resvox(\.[a-z_0-9]+)+")
STANDARD = set(sys.stdlib_module_names) | {"resvox"}
MAY_IMPORT_TORCH = ("torch/", "training/", "evaluation/", "inference/engines/")
TORCH = {"torch", "torchvision", "monai", "lightning_fabric", "lightning"}
KERAS = {"keras", "tensorflow", "jax"}


def files():
    return sorted(SOURCE.rglob("*.py"))


def room_of(path):
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
    """Whether a text is the dotted name of a module of ours, not of a function such as ``resvox.create_model``."""
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


def wrong_rooms(room, tree):
    called = {name.split(".")[1] for name in imported(tree) if name.startswith("resvox.")}
    return sorted(called - MAY_CALL[room] - SHOWN_BY.get(room, set()) - {room})


def packages(tree):
    return {name.split(".")[0] for name in imported(tree)}


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def test_every_room_has_its_line_in_the_table():
    assert {room_of(path) for path in files()} <= set(MAY_CALL)


@pytest.mark.parametrize("room", sorted(MAY_CALL))
def test_a_room_calls_only_the_rooms_before_it(room):
    wrong = {str(path): wrong_rooms(room, parsed(path)) for path in files() if room_of(path) == room}
    assert {path: rooms for path, rooms in wrong.items() if rooms} == {}


def test_no_module_of_the_package_imports_resvox_itself():
    """The law above would not see what such a module calls through the lazy names of ``resvox/__init__.py``."""
    guilty = [str(path) for path in files() if "resvox" in imported(parsed(path))]
    assert guilty == []
    assert "resvox" in imported(ast.parse("def late():\n    import resvox"))


def test_the_table_has_no_circle():
    left = {room: set(calls) for room, calls in MAY_CALL.items()}
    while left:
        free = {room for room, calls in left.items() if not calls & set(left)}
        assert free, f"a circle among {sorted(left)}"
        left = {room: calls for room, calls in left.items() if room not in free}


def test_the_blueprint_needs_the_standard_library_alone():
    for path in files():
        if room_of(path) in ("blueprint", "cards", "errors", "_version", "__init__"):
            assert packages(parsed(path)) <= STANDARD, path


def test_only_their_rooms_import_the_frameworks():
    for path in files():
        inside = path.relative_to(SOURCE).as_posix()
        if not inside.startswith(MAY_IMPORT_TORCH):
            assert not packages(parsed(path)) & TORCH, inside
        if not inside.startswith("keras/"):
            assert not packages(parsed(path)) & KERAS, inside


@pytest.mark.parametrize(
    ("source", "rooms", "found"),
    [
        ("from resvox.torch import build", ["torch"], set()),
        ("def late():\n    import resvox.training.loop as loop", ["training"], set()),
        ("try:\n    from resvox import keras\nexcept ImportError:\n    pass", ["keras"], set()),
        ("if TYPE_CHECKING:\n    from resvox.torch import build", [], set()),
        ("from resvox.errors import ResvoxError\nimport torch.nn as nn", [], {"torch"}),
    ],
)
def test_the_reader_of_imports_sees_a_planted_one(source, rooms, found):
    tree = ast.parse(source)
    assert wrong_rooms("catalog", tree) == rooms
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
    for room in ("blueprint", "catalog", "errors", "torch", "weights", "volumes"):
        module = importlib.import_module(f"resvox.{room}")
        assert getattr(resvox, room) is module
        for name in getattr(module, "__all__", ()):
            assert hasattr(module, name), f"resvox.{room}.{name}"
    with pytest.raises(AttributeError, match="module 'resvox' has no attribute 'creat_model'"):
        _ = resvox.creat_model


def test_the_public_names_are_those_of_the_contract():
    contract = {"list_models", "create_model", "get_blueprint", "walkthrough", "save_model", "load_model",
                "load_weights"}  # fmt: skip
    assert contract <= set(resvox.__all__)
