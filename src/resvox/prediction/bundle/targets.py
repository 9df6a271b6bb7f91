"""The objects that a bundle's configuration names: their class, and arguments that are read by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from resvox.errors import WeightsError
from resvox.weights.bundle.configuration import Configuration

OF_DICTIONARIES = ("d", "D", "Dict")  # what ends the name of a transform that works on a dictionary of images
OF_EVERY = {"keys", "allow_missing_keys", "dtype", "lazy"}  # arguments that change no result


@dataclass(frozen=True, kw_only=True)
class Target:
    """One object of the configuration; its arguments are resolved when they are read, so that others may be code.

    Args:
        name: its class, without the module and without the ending of transforms on dictionaries.
        arguments: as the file has them.
        where: its place in the file.
        configuration: the file.
    """

    name: str
    arguments: Mapping[str, Any]
    where: str
    configuration: Configuration

    def read(self, name: str, default: Any = None) -> Any:
        """An argument as a plain value."""
        if name not in self.arguments:
            return default
        return self.configuration.literal(self.arguments[name], f"{self.where}.{name}")

    def refuse(self, got: str, expected: str, fix: str = "") -> NoReturn:
        """Raise the error about this object."""
        raise WeightsError(f"{self.where}: {got}", expected=expected, fix=fix, path=self.configuration.path)

    def check_known(self, known: set[str]) -> None:
        """Refuse arguments that are not known, by name."""
        for name in self.arguments:
            if name not in known | OF_EVERY and not name.startswith("_"):
                self.refuse(f"{name} of {self.name}", f"of {', '.join(sorted(known)) or 'no arguments'}")

    def check_fixed(self, fixed: Mapping[str, tuple[Any, ...]]) -> None:
        """Refuse arguments with another value than those that are computed here."""
        for name, allowed in fixed.items():
            value = self.read(name, allowed[0])
            if not any(value is each or (value == each and not isinstance(value, bool)) for each in allowed):
                self.refuse(f"{name}={value!r} of {self.name}", " or ".join(map(repr, allowed)))

    def keys(self) -> tuple[str, ...] | None:
        """The images that it works on; None for a transform of one image."""
        if "keys" not in self.arguments:
            return None
        found = self.read("keys")
        listed = [found] if isinstance(found, str) else found
        if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
            self.refuse(f"keys={found!r}", "names of images")
        return tuple(listed)


def target_of(configuration: Configuration, value: Any, where: str, classes: set[str] | None = None) -> Target:
    """The object at a place of the configuration.

    Args:
        configuration: the file.
        value: what is there.
        where: the place, named in errors.
        classes: names that are whole although they end like those of transforms on dictionaries.

    Raises:
        WeightsError: something else than an object with ``_target_``, or code.
    """
    found = _followed(configuration, value, where)
    if not isinstance(found, Mapping) or not isinstance(found.get("_target_"), str):
        shown = "nothing" if found is None else repr(found)[:60]
        raise WeightsError(f"{where} is {shown}", expected="an object with _target_", path=configuration.path)
    name = found["_target_"].rpartition(".")[2]
    if name not in (classes or set()):
        for ending in OF_DICTIONARIES:
            name = name.removesuffix(ending) if name.removesuffix(ending) in (classes or set()) else name
    arguments = {key: each for key, each in found.items() if key != "_target_"}
    return Target(name=name, arguments=arguments, where=where, configuration=configuration)


def transforms_of(configuration: Configuration, name: str, classes: set[str]) -> list[Target]:
    """The transforms of a ``Compose``, also of those in it, less the disabled ones; none where there is no such key."""
    if configuration.values.get(name) is None:
        return []
    return list(_flat(configuration, configuration.values[name], name, classes | {"Compose"}))


def _flat(configuration: Configuration, value: Any, where: str, classes: set[str]) -> Iterator[Target]:
    found = _followed(configuration, value, where)
    if isinstance(found, list):
        for place, each in enumerate(found):
            yield from _flat(configuration, each, f"{where}.{place}", classes)
        return
    target = target_of(configuration, found, where, classes)
    if target.read("_disabled_", False) in (True, "true", "True"):
        return
    if target.name == "Compose":
        target.check_known({"transforms", "map_items", "unpack_items", "log_stats", "overrides"})
        yield from _flat(configuration, target.arguments.get("transforms") or [], f"{where}.transforms", classes)
    else:
        yield target


def _followed(configuration: Configuration, value: Any, where: str) -> Any:
    """What a reference refers to; the values in it stay as they are."""
    for _ in range(20):
        if not (isinstance(value, str) and value[:1] in ("@", "$")):
            return value
        value = configuration.followed(value, where)
    raise WeightsError(f"{where} refers to itself", expected="values", path=configuration.path)
