"""The peers in one place, and how a file is recognised as theirs. A new peer is one file and one line here."""

from __future__ import annotations

from resvox.blueprint import Blueprint
from resvox.errors import WeightsError
from resvox.weights.importers import (
    kenshohara,
    keras_applications,
    medicai,
    medicalnet,
    monai,
    nnunet,
    smp,
    timm,
    torchvision,
)
from resvox.weights.importers.importer import Evidence, Importer, Peer, Shapes

# where several fit equally well, the first one counts
MODULES = (torchvision, timm, monai, medicalnet, kenshohara, smp, nnunet, keras_applications, medicai)
BY_NAME: dict[str, Peer] = {module.PEER.name: module.PEER for module in MODULES}
PEERS = (*BY_NAME, "resvox")


def candidates(shapes: Shapes, style: str, peer: str | None) -> list[Importer]:
    """The importers whose tables hold most of the names; only those of ``peer`` where it is given.

    Raises:
        WeightsError: an unknown peer.
    """
    if peer is not None and peer not in PEERS:
        raise WeightsError(f"peer={peer!r}", expected="one of " + ", ".join(PEERS))
    known = [importer for each in BY_NAME.values() for importer in (*each.importers, *each.of_shapes(shapes))]
    fitting = [each for each in known if each.style == style and peer in (None, each.peer)]
    scores = [sum(each.knows(name) for name in shapes) for each in fitting]
    best = max(scores, default=0)
    return [each for each, score in zip(fitting, scores, strict=True) if score == best and best > 0]


def importers_of(peer: str, blueprint: Blueprint) -> list[Importer]:
    """A peer's importers for writing the weights of a blueprint."""
    known = BY_NAME[peer]
    return [*known.importers, *known.of_blueprint(blueprint)]


def choose(found: list[Importer], shapes: Shapes, wrappers: tuple[str, ...], where: str) -> Importer:
    """One importer of several that share their names, by what else distinguishes them.

    Raises:
        WeightsError: the peers cannot be distinguished, and compute different things.
    """
    evidence = Evidence(shapes=shapes, wrappers=wrappers)
    fitting = [each for each in found if evidence.spatial_dims in each.spatial_dims] or found
    by_peer = {each.peer: each for each in reversed(fitting)}
    if len(by_peer) < 2:
        return fitting[0]
    likely = [each for each in by_peer.values() if each.is_likely(evidence)]
    if len(likely) == 1:
        return likely[0]
    names = " or ".join(repr(each) for each in by_peer)
    raise WeightsError(
        f"names and shapes that {names} share, which compute different things with them",
        expected="the name of the peer that wrote the file",
        fix=f"say peer={names}",
        path=where,
    )
