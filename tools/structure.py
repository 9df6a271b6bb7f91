"""Figures on the structure of the source, of one checkout or of two side by side, as a Markdown page.

    python tools/structure.py                              # this checkout
    python tools/structure.py OLD . --out benchmarks/structure.md

Nothing is imported or run: the figures are read from the syntax trees of ``src/resvox/**/*.py``, so any commit can be
measured on any machine. What each figure counts stands under the table.
"""

from __future__ import annotations

import argparse
import ast
import pathlib
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

PACKAGE = "resvox"
TASKS = ("segmentation", "classification", "regression")
LONG_FUNCTION, MANY_PARAMETERS = 60, 10
# From the bottom to the top; a package may import those of the rows above its own, and those of its own row.
LAYERS = (
    ("errors", "_version", "machine", "files", "digests", "lazy", "locks", "regions"),
    ("blueprint", "cards", "storage"),
    ("hub",),
    ("catalog",),
    ("torch", "keras", "walk"),
    ("factory",),
    ("weights",),
    ("volumes",),
    ("datasets", "preprocessing"),
    ("evaluation",),
    ("viewer", "inference"),
    ("training",),
    ("prediction", "delivery"),
    ("server", "fleet"),
    ("workflow",),
    ("cli",),
    ("__main__",),
)
DEFINITIONS = f"""\
* **Files in a folder**: `.py` files directly in it, `__init__.py` included.
* **Import circles**: strongly connected groups of two or more modules, where every import counts: at module level,
  inside functions, and for type checkers only. An import from a package counts as one of its `__init__.py`; that
  importing a module also runs the `__init__.py` of its parents is not counted.
* **Tests of a task's name**: comparisons (`==`, `!=`, `in`, `not in`, `case`) with "segmentation", "classification" or
  "regression", and dictionaries inside functions with such a key. Each comparison and each dictionary counts once. Not
  counted: names that are only passed on, stored or shown. **Tables** are dictionaries at module or class level with
  such a key, and are allowed. **isinstance** counts calls that ask for a class named after a task (Segment...,
  Classif..., Regress...), which would be the same branch in other words.
* **Functions over {LONG_FUNCTION} lines**: from `def` to the last line, without decorators and without the docstring.
* **Parameter lists over {MANY_PARAMETERS}**: all parameters but `self` and `cls`.
* **Spellings of `memory_gb`'s default**: numbers written as the default of a parameter or field, as a constant or as a
  dictionary's value under that name, in upper or lower case.
* **Arrows that run up**: imports, those for type checkers included, of a package in a higher row of `LAYERS` in this
  script. **`import {PACKAGE}` inside the package** asks the top for something below it, and is counted apart.
"""


@dataclass(frozen=True, kw_only=True)
class Module:
    """One source file: its dotted name, its place below the package, its text and its syntax tree."""

    name: str
    place: pathlib.PurePosixPath
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """The first part of its place: the package of the import law, or the module's own name at the top level."""
        return self.place.parts[0].removesuffix(".py")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A row of the table: its title, its number, and the places that were counted."""

    title: str
    value: str
    places: tuple[str, ...] = ()


def read_modules(checkout: pathlib.Path) -> list[Module]:
    """All modules of a checkout's package, in the order of their names."""
    source = checkout / "src" / PACKAGE
    paths = sorted(source.rglob("*.py"))
    if not paths:
        raise SystemExit(f"{source}: no Python files; expected a checkout of {PACKAGE}")
    modules = []
    for path in paths:
        place = pathlib.PurePosixPath(path.relative_to(source).as_posix())
        parts = [PACKAGE, *place.with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        modules.append(Module(name=name, place=place, text=text, tree=ast.parse(text)))
    return modules


# -------------------------------------------------------------------------------------------------- folders and files


def folders(modules: list[Module]) -> list[Figure]:
    """Files in the fullest folder, and the longest file."""
    counts = Counter(str(module.place.parent) for module in modules)
    fullest = [f"{folder}/ {count}" for folder, count in counts.most_common(8)]
    lengths = sorted(((len(module.text.splitlines()), str(module.place)) for module in modules), reverse=True)
    return [
        Figure(title="modules", value=str(len(modules))),
        Figure(title="lines", value=str(sum(length for length, _ in lengths))),
        Figure(title="files in the fullest folder", value=str(max(counts.values())), places=tuple(fullest)),
        Figure(
            title="lines of the longest file",
            value=str(lengths[0][0]),
            places=tuple(f"{place} {length}" for length, place in lengths[:6]),
        ),
    ]


# -------------------------------------------------------------------------------------------------- imports


def imports_of(module: Module, known: set[str]) -> Iterator[tuple[str, int]]:
    """The package's own modules that a module imports anywhere, and the lines where it does."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in known:
                    yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                yield (inside if inside in known else str(node.module)), node.lineno


def import_graph(modules: list[Module]) -> dict[str, set[str]]:
    """The modules that each module imports."""
    known = {module.name for module in modules}
    return {module.name: {name for name, _ in imports_of(module, known)} - {module.name} for module in modules}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected groups of at least two modules (Tarjan 1972), without recursion."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    waiting: list[str] = []
    groups: list[list[str]] = []
    for root in graph:
        work = [] if root in index else [(root, iter(sorted(graph[root])))]
        while work:
            node, targets = work[-1]
            if node not in index:
                index[node] = lowest[node] = len(index)
                waiting.append(node)
            for target in targets:
                if target not in index:
                    work.append((target, iter(sorted(graph[target]))))
                    break
                if target in waiting:
                    lowest[node] = min(lowest[node], index[target])
            else:
                work.pop()
                if work:
                    lowest[work[-1][0]] = min(lowest[work[-1][0]], lowest[node])
                if lowest[node] == index[node]:
                    first = waiting.index(node)
                    groups.append(sorted(waiting[first:]))
                    del waiting[first:]
    return sorted(group for group in groups if len(group) > 1)


def import_figures(modules: list[Module]) -> list[Figure]:
    """Circles, arrows that run up, and imports of the top from inside."""
    groups = [
        " <-> ".join(name.removeprefix(f"{PACKAGE}.") for name in group) for group in circles(import_graph(modules))
    ]
    rows = {package: row for row, packages in enumerate(LAYERS) for package in packages}
    unknown = {module.package for module in modules} - set(rows) - {"__init__"}
    if unknown:
        raise SystemExit(f"{', '.join(sorted(unknown))}: not in LAYERS of tools/structure.py; expected a row for each")
    known = {module.name for module in modules}
    up, top = [], []
    for module in modules:
        if module.package == "__init__":
            continue
        for name, line in sorted(set(imports_of(module, known))):
            if name == PACKAGE:
                top.append(f"{module.place}:{line}")
            elif rows[name.split(".")[1]] > rows[module.package]:
                up.append(f"{module.place}:{line} -> {name.removeprefix(f'{PACKAGE}.')}")
    return [
        Figure(title="import circles, type-only imports counted", value=str(len(groups)), places=tuple(groups)),
        Figure(title="arrows that run up", value=str(len(up)), places=tuple(up)),
        Figure(title=f"`import {PACKAGE}` inside the package", value=str(len(top)), places=tuple(top)),
    ]


# -------------------------------------------------------------------------------------------------- tasks


def names_a_task(node: ast.expr | None) -> bool:
    """Whether an expression is the name of a task, or a display of several values with one among them."""
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return any(names_a_task(each) for each in node.elts)
    return isinstance(node, ast.Constant) and node.value in TASKS


def compared(node: ast.Compare | ast.MatchValue) -> list[ast.expr]:
    """What a comparison or a ``case`` compares."""
    return [node.value] if isinstance(node, ast.MatchValue) else [node.left, *node.comparators]


def asks_for_a_task_class(node: ast.AST) -> bool:
    """Whether this is ``isinstance(x, <a class named after a task>)``."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance"):
        return False
    stems = ("segment", "classif", "regress")
    names = [each.id if isinstance(each, ast.Name) else each.attr for each in ast.walk(node.args[1])
             if isinstance(each, (ast.Name, ast.Attribute))]  # fmt: skip
    return any(name.lower().startswith(stems) for name in names)


def with_function(tree: ast.AST, inside: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, and whether it stands in a function."""
    for child in ast.iter_child_nodes(tree):
        yield child, inside
        is_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield from with_function(child, inside or is_function)


def task_figures(modules: list[Module]) -> list[Figure]:
    """Places that test a task's name, tables with such keys, and isinstance on a task's class."""
    tests, tables, classes = [], [], []
    for module in modules:
        for node, inside in with_function(module.tree):
            place = f"{module.place}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, (ast.Compare, ast.MatchValue)) and any(map(names_a_task, compared(node))):
                tests.append(place)
            elif isinstance(node, ast.Dict) and any(map(names_a_task, node.keys)):
                (tests if inside else tables).append(place)
            elif asks_for_a_task_class(node):
                classes.append(place)
    files = len({place.split(":")[0] for place in tests})
    return [
        Figure(
            title="tests of a task's name outside tables", value=f"{len(tests)} in {files} files", places=tuple(tests)
        ),
        Figure(title="tables with a row for each task", value=str(len(tables)), places=tuple(tables)),
        Figure(title="isinstance on a task's class", value=str(len(classes)), places=tuple(classes)),
    ]


# -------------------------------------------------------------------------------------------------- functions


def length_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without decorators and docstring."""
    first, last = node.body[0], node.end_lineno or node.lineno
    docstring = 0
    if ast.get_docstring(node, clean=False) is not None:
        docstring = (first.end_lineno or first.lineno) - first.lineno + 1
    return last - node.lineno + 1 - docstring


def parameters_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Parameters without ``self`` and ``cls``."""
    own = node.args
    every = [*own.posonlyargs, *own.args, *own.kwonlyargs, *filter(None, (own.vararg, own.kwarg))]
    return sum(each.arg not in ("self", "cls") for each in every)


def function_figures(modules: list[Module]) -> list[Figure]:
    """Long functions and long parameter lists."""
    measured = [
        (f"{module.place}:{node.name}", length_of(node), parameters_of(node))
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]

    def over(limit: int, which: int) -> tuple[str, ...]:
        found = sorted(((row[which], row[0]) for row in measured if row[which] > limit), reverse=True)
        return tuple(f"{place} {count}" for count, place in found)

    long, many = over(LONG_FUNCTION, 1), over(MANY_PARAMETERS, 2)
    return [
        Figure(title="functions", value=str(len(measured))),
        Figure(title=f"functions over {LONG_FUNCTION} lines", value=str(len(long)), places=long),
        Figure(title=f"parameter lists over {MANY_PARAMETERS}", value=str(len(many)), places=many),
    ]


# -------------------------------------------------------------------------------------------------- one default


def named_values(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Names and what is written as their value: defaults, assignments, entries of dictionaries."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arguments):
            plain = [*node.posonlyargs, *node.args]
            yield from zip((each.arg for each in plain[len(plain) - len(node.defaults) :]), node.defaults, strict=True)
            yield from (
                (each.arg, value)
                for each, value in zip(node.kwonlyargs, node.kw_defaults, strict=True)
                if value is not None
            )
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node.value
        elif isinstance(node, ast.Assign):
            yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield key.value, value


def default_figures(modules: list[Module]) -> list[Figure]:
    """How often the default of ``memory_gb`` is written as a number."""
    places = tuple(
        f"{module.place}:{value.lineno}"
        for module in modules
        for name, value in named_values(module.tree)
        if name.lower() == "memory_gb" and isinstance(value, ast.Constant) and isinstance(value.value, (int, float))
    )
    return [Figure(title="spellings of `memory_gb`'s default", value=str(len(places)), places=places)]


# -------------------------------------------------------------------------------------------------- the page

MEASURES: tuple[Callable[[list[Module]], list[Figure]], ...] = (
    folders,
    import_figures,
    task_figures,
    function_figures,
    default_figures,
)


def measure(checkout: pathlib.Path) -> list[Figure]:
    """Every figure of a checkout."""
    modules = read_modules(checkout)
    return [figure for each in MEASURES for figure in each(modules)]


def commit_of(checkout: pathlib.Path) -> str:
    """The checkout's commit; a plus where files of the package differ from it."""
    words = ["git", "-C", str(checkout)]
    found = subprocess.run([*words, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run([*words, "status", "--porcelain", "src"], capture_output=True, text=True)
    return (found.stdout.strip() or "no commit") + ("+" if changed.stdout.strip() else "")


def page(checkouts: list[pathlib.Path]) -> str:
    """The table, what it counts, and the places that were counted."""
    columns = [measure(each) for each in checkouts]
    titles = ["before", "after"] if len(checkouts) == 2 else ["now"]
    heads = [f"{title} ({commit_of(each)})" for title, each in zip(titles, checkouts, strict=True)]
    lines = [
        "# Structure of the source",
        "",
        "Written by `tools/structure.py`. A plus behind a commit means changes that are not committed.",
        "",
        f"| figure | {' | '.join(heads)} |",
        f"|---|{'---:|' * len(heads)}",
    ]
    for row in zip(*columns, strict=True):
        lines.append(f"| {row[0].title} | {' | '.join(figure.value for figure in row)} |")
    lines += ["", "## What is counted", "", DEFINITIONS.rstrip()]
    for head, figures in zip(heads, columns, strict=True):
        lines += ["", f"## Places, {head}"]
        for figure in figures:
            if figure.places:
                lines += ["", f"{figure.title}:", "", *(f"* `{place}`" for place in figure.places)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = pathlib.Path(__file__).resolve().parents[1]
    parser.add_argument(
        "checkouts", nargs="*", type=pathlib.Path, default=[here], help="one checkout, or before and after"
    )
    parser.add_argument("--out", type=pathlib.Path, help="write the page here")
    options = parser.parse_args()
    if len(options.checkouts) > 2:
        parser.error("expected one checkout or two")
    text = page(options.checkouts)
    print(text, end="")
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
