"""The one place that imports ``huggingface_hub``, and its errors in one line."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from resvox.errors import ResvoxError, WeightsError
from resvox.hub.address import HubAddress

TOKEN_FIX = "set HF_TOKEN, or log in with `hf auth login`; for a name that is misspelled, correct it"
# What the hub refuses, by its HTTP status: what happened, what is expected, and the fix.
REFUSALS = {
    401: ("the hub asks for a token: no such repository, or a private one", "one that your token may use", TOKEN_FIX),
    403: ("your token may not do this", "a token with the right to write to the repository", TOKEN_FIX),
    404: ("the hub has no such repository, or it is private", "one that your token may use", TOKEN_FIX),
    413: ("the hub refused a file for its size", "a smaller one", ""),
    429: ("the hub refused the request: too many of them", "a pause", "try again in a few minutes"),
}  # fmt: skip
# Names of exceptions, most special first: they are the same in every version, the classes below them are not.
KINDS = {
    "HFValidationError": ("not a valid name of a repository", "owner/name of letters, digits, '-', '_' and '.'", ""),
    "RevisionNotFoundError": ("no such revision in the repository", "a branch, a tag or a commit", ""),
    "GatedRepoError": ("a repository whose terms are to be accepted first", "your consent on its page", TOKEN_FIX),
    "OfflineModeIsEnabled": ("not in the cache, and HF_HUB_OFFLINE is set", "a network", "unset HF_HUB_OFFLINE"),
    "LocalEntryNotFoundError": (
        "not in the cache, and the hub cannot be reached",
        "a network, or a model that was loaded once before",
        "check the network and HF_ENDPOINT",
    ),
}


def hub_module(address: HubAddress) -> Any:
    """The module ``huggingface_hub``.

    Raises:
        WeightsError: it is not installed.
    """
    try:
        return importlib.import_module("huggingface_hub")
    except ModuleNotFoundError as error:
        if error.name != "huggingface_hub":
            raise
        raise WeightsError(
            "a model on a hub, and huggingface_hub is not installed",
            expected="the extra 'hub'",
            fix="pip install 'resvox[hub]'",
            path=str(address),
        ) from None


@contextmanager
def errors_in_one_line(address: HubAddress) -> Iterator[None]:
    """Turn what ``huggingface_hub`` raises into one line with the address.

    Its errors share no class: they are those of an HTTP library that differs between its versions, and plain ones.

    Raises:
        WeightsError: instead of any of them. The text never holds headers, so never a token.
    """
    try:
        yield
    except (ResvoxError, KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:
        got, expected, fix = _explained(error)
        raise WeightsError(got, expected=expected, fix=fix, path=str(address)) from error


def _explained(error: BaseException) -> tuple[str, str, str]:
    chain = [error]
    while (inner := chain[-1].__cause__) is not None and inner not in chain:
        chain.append(inner)
    for each in chain:
        names = {kind.__name__ for kind in type(each).__mro__}
        found = next((row for name, row in KINDS.items() if name in names), None)
        status = getattr(getattr(each, "response", None), "status_code", None)
        refusal = found or REFUSALS.get(int(status or 0))
        if refusal:
            return refusal
    words = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if any("Connect" in kind.__name__ or "Timeout" in kind.__name__ for each in chain for kind in type(each).__mro__):
        return f"the hub cannot be reached ({words})", "a network", "check the network and HF_ENDPOINT"
    return f"the hub failed ({words})", "a repository that can be used", "try again later"
