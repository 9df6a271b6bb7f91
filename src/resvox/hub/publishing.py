"""Upload files to a repository of a hub, in one commit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resvox.hub.address import HubAddress
from resvox.hub.client import errors_in_one_line, hub_module

MODEL_FILE = re.compile(r"(.*/)?model\.safetensors")
README = "README.md"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A commit on the hub: its digest, its page, and whether the README that was there is kept."""

    commit: str
    url: str
    kept_readme: bool


def publish_files(
    address: HubAddress,
    files: Mapping[str, Path],
    readme: str,
    *,
    message: str,
    private: bool = False,
    new_readme: bool = False,
) -> Published:
    """Write files and a model card to a repository, in one commit; a repository that does not exist is made.

    Model files of an earlier publication that are not among ``files`` are removed in the same commit.

    Args:
        address: the repository; its revision is a branch, which is made if it does not exist.
        files: local files by their names in the repository.
        readme: the text of the model card.
        message: of the commit.
        private: make a new repository private.
        new_readme: replace the README of the repository; otherwise one that is there is kept.

    Raises:
        WeightsError: no right to write, no network, or a name that cannot be.
    """
    hub = hub_module(address)
    with errors_in_one_line(address):
        api = hub.HfApi()
        api.create_repo(address.repository, private=private, exist_ok=True)
        if address.revision not in (None, "main"):
            api.create_branch(address.repository, branch=address.revision, exist_ok=True)
        there = set(api.list_repo_files(address.repository, revision=address.revision))
        keeps = README in there and not new_readme
        done = api.create_commit(
            address.repository,
            operations=_operations(hub, files, there, None if keeps else readme),
            commit_message=message,
            revision=address.revision,
        )
    return Published(commit=str(done.oid), url=str(done.commit_url), kept_readme=keeps)


def _operations(hub: Any, files: Mapping[str, Path], there: set[str], readme: str | None) -> list[Any]:
    operations = [hub.CommitOperationAdd(name, str(path)) for name, path in files.items()]
    if readme is not None:
        operations.append(hub.CommitOperationAdd(README, readme.encode()))
    old = sorted(name for name in there - set(files) if MODEL_FILE.fullmatch(name))
    return [*operations, *(hub.CommitOperationDelete(name) for name in old)]
