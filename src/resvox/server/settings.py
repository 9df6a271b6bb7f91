"""All settings of `resvox serve`: from flags, the environment, or one TOML file, in this order of precedence."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from resvox.prediction.options import PredictOptions
from resvox.server.refusals import SettingsError

PREFIX = "RESVOX_SERVE_"
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
SHORTEST_TOKEN = 16
TOKENS = ("token", "token_file")  # two ways to give one token
GENERIC = ("model.safetensors",)  # file names that say nothing; the folder names the model


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """How the server runs. Checked when made; sent to worker processes as it is.

    Args:
        models: ``NAME=PATH`` or ``PATH``: model files, run folders, folders of folds. A path names its model by its
            folder (of ``model.safetensors``) or file.
        host: the address to bind; anything but the loopback needs a token.
        port: 0 chooses a free one.
        token: what clients send as ``Authorization: Bearer``; "" for no authentication.
        token_file: a file that holds the token, instead of ``token``. Of the two, that of the stronger source is used.
        data: the folder for jobs, results and the queue; one server at a time.
        devices: one worker process for each: "auto", "cpu", "cuda:0", ...
        engine, precision, mirror, overlap: see `resvox.prediction.options.PredictOptions`.
        max_upload_mb: of one request.
        max_unpacked_mb: what the archive of a request may unpack to.
        max_files: files of an upload or an archive.
        max_megavoxels: of a scan by its header, channels counted, and of the grid that the network sees.
        max_queue: jobs that wait.
        max_disk_gb: what the data folder may hold.
        min_free_gb: what an upload must leave free on its disk.
        job_minutes: longer jobs are ended.
        keep_hours: finished jobs are removed after this.
        session_minutes: uploaded scans of MONAI Label clients are removed after this, unless they ask for less.
        stop_seconds: how long running jobs may take to finish when the server is stopped; then they are queued again.
        max_attempts: a job during which the worker process ended so often has failed.
        origins: of web pages that may call the server (OHIF), such as ``https://ohif.example.org``.
        hosts: names by which clients may reach the server, beside the address it is bound to and loopback names.
        dicomweb: the URL of a DICOMweb server, from which series are fetched and to which segmentations are sent.
        dicomweb_user: ``name:password`` for it.
        dicomweb_token: a bearer token for it.
        log_level: "debug", "info", "warning" or "error".

    Raises:
        SettingsError: a value that cannot be.
    """

    models: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    token_file: str = ""
    data: str = "resvox-serve"
    devices: tuple[str, ...] = ("auto",)
    engine: str = "auto"
    precision: str = "auto"
    mirror: bool | None = None
    overlap: float | None = None
    max_upload_mb: float = 2048.0
    max_unpacked_mb: float = 8192.0
    max_files: int = 5000
    max_megavoxels: float = 600.0
    max_queue: int = 100
    max_disk_gb: float = 50.0
    min_free_gb: float = 1.0
    job_minutes: float = 60.0
    keep_hours: float = 24.0
    session_minutes: float = 60.0
    stop_seconds: float = 30.0
    max_attempts: int = 3
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    dicomweb: str = ""
    dicomweb_user: str = ""
    dicomweb_token: str = ""
    log_level: str = "info"

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_words()
        if not self.is_loopback and not self.token:
            raise SettingsError(
                f"host={self.host!r} without a token",
                expected="a token where other machines can connect",
                fix=f"set {PREFIX}TOKEN or --token-file (openssl rand -hex 24 > token), or leave --host out",
            )
        if self.token and (len(self.token) < SHORTEST_TOKEN or not self.token.isprintable() or " " in self.token):
            raise SettingsError(
                f"a token of {len(self.token)} characters",
                expected=f"at least {SHORTEST_TOKEN} printable ones without blanks",
                fix="openssl rand -hex 24",
            )
        self.predict_options(self.models or ("model.safetensors",))  # engine, precision, overlap

    def _check_numbers(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            lowest = 0 if each.name in ("port", "overlap", "stop_seconds", "min_free_gb") else 1e-9
            if not lowest <= value < float("inf"):
                raise SettingsError(f"{each.name}={value}", expected="a number above 0" if lowest else "0 or more")
        if self.port > 65535:
            raise SettingsError(f"port={self.port}", expected="0 to 65535")

    def _check_words(self) -> None:
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise SettingsError(f"log_level={self.log_level!r}", expected="debug, info, warning or error")
        for origin in self.origins:
            if not re.fullmatch(r"https?://[^/\s*]+", origin):
                raise SettingsError(f"origin {origin!r}", expected="scheme and host, such as https://ohif.example.org")
        if self.dicomweb and not re.fullmatch(r"https?://\S+", self.dicomweb):
            raise SettingsError(f"dicomweb={self.dicomweb!r}", expected="an http or https URL")
        if not self.devices or len(set(self.devices)) < len(self.devices):
            raise SettingsError(f"devices={list(self.devices)}", expected="at least one device, each once")
        for device in self.devices:
            if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
                raise SettingsError(f"device {device!r}", expected="auto, cpu, cuda or cuda:N")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.host)

    @property
    def folder(self) -> Path:
        """The data folder."""
        return Path(self.data)

    @property
    def named_models(self) -> dict[str, str]:
        """The models by name.

        Raises:
            SettingsError: no model, a name that is not valid in a URL, or two of one name.
        """
        named: dict[str, str] = {}
        for each in self.models:
            name, separator, path = each.partition("=")
            if not separator or "/" in name:
                name, path = name_of(Path(each)), each
            if not MODEL_NAME.fullmatch(name):
                raise SettingsError(
                    f"model name {name!r}", expected="letters, digits, '_', '-', '.'", fix=f"NAME={path}", path=path
                )
            if name in named:
                raise SettingsError(
                    f"two models named {name!r}", expected="a name for each", fix=f"NAME={path}", path=path
                )
            named[name] = path
        if not named:
            raise SettingsError("no model", expected="at least one", fix="resvox serve runs/liver")
        return named

    def predict_options(self, model: str | tuple[str, ...], device: str = "auto") -> PredictOptions:
        """The options of a model's predictor."""
        return PredictOptions(
            model=model,
            engine=self.engine,
            precision=self.precision,
            device=device,
            mirror=self.mirror,
            overlap=self.overlap,
            sidecar=True,
        )


def is_loopback(host: str) -> bool:
    """Whether an address or name is that of this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def name_of(path: Path) -> str:
    """The name of a model by its path: the folder of a run, or the file without its ending."""
    path = Path(os.path.abspath(path))
    if path.is_dir() or not path.suffix:
        return path.name
    return path.parent.name if path.name in GENERIC else path.stem


def load_settings(
    given: Mapping[str, Any], *, config: Path | None = None, environment: Mapping[str, str] = os.environ
) -> ServeSettings:
    """Settings of flags, environment and file.

    Args:
        given: what flags set; None and empty tuples are passed over.
        config: a TOML file with the same names; the variable RESVOX_SERVE_CONFIG names one, too.
        environment: variables ``RESVOX_SERVE_<NAME>``; several values are separated by commas.

    Raises:
        SettingsError: an unknown name, a value that cannot be, or one source with both ``token`` and ``token_file``.
    """
    named = environment.get(f"{PREFIX}CONFIG", "")
    file = config if config is not None else Path(named) if named else None
    flags = {name: value for name, value in given.items() if value is not None and value != ()}
    values: dict[str, Any] = {} if file is None else _from_file(file)
    _check_one_token(values, str(file))
    for where, stronger in (("the environment", _from_environment(environment)), ("the flags", flags)):
        if _check_one_token(stronger, where):
            for name in TOKENS:
                values.pop(name, None)  # otherwise the weaker source's other way would still count
        values.update(stronger)
    if values.get("token_file") and not values.get("token"):
        values["token"] = _token_of(Path(values["token_file"]))
    return ServeSettings(**values)


def _check_one_token(values: Mapping[str, Any], where: str) -> bool:
    """Whether a source of settings gives a token, in one of the two ways.

    Raises:
        SettingsError: it gives both, of which one would be ignored.
    """
    found = [name for name in TOKENS if values.get(name)]
    if len(found) > 1:
        raise SettingsError(f"{where}: {' and '.join(found)}", expected="one of them", fix="leave one out")
    return bool(found)


def _from_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot be read ({error})", expected="a TOML file", path=path) from None
    if sys.version_info >= (3, 11):
        import tomllib as toml
    else:
        import tomli as toml
    try:
        found = toml.loads(text)
    except toml.TOMLDecodeError as error:
        raise SettingsError(f"not TOML ({error})", expected="lines such as port = 8000", path=path) from None
    return {name: _typed(name, value, str(path)) for name, value in found.items()}


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found = {key.removeprefix(PREFIX).lower(): value for key, value in environment.items() if key.startswith(PREFIX)}
    found.pop("config", None)
    return {name: _typed(name, value, f"{PREFIX}{name.upper()}") for name, value in found.items()}


KINDS = {each.name: str(each.type) for each in fields(ServeSettings)}


def _typed(name: str, value: Any, where: str) -> Any:
    """A value of a file or a variable as the type of its setting."""
    if name not in KINDS:
        from resvox.errors import suggest

        raise SettingsError(f"{where}: no setting {name!r}", expected="a known one", fix=suggest(name, KINDS))
    kind = KINDS[name]
    try:
        if kind.startswith("tuple"):
            parts = value.split(",") if isinstance(value, str) else value
            return tuple(str(part).strip() for part in parts if str(part).strip())
        if kind.startswith("bool"):
            return value if isinstance(value, bool) else {"1": True, "true": True, "0": False, "false": False}[value]
        if kind == "int":
            return int(value)
        return float(value) if kind.startswith("float") else str(value)
    except (KeyError, TypeError, ValueError):
        raise SettingsError(f"{where}: {name}={value!r}", expected=f"a value of type {kind}") from None


def _token_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot be read ({error})", expected="a file that holds the token", path=path) from None
