"""An exponential moving average of the weights, which is validated and saved in place of the weights themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn


class WeightAverage:
    """The moving average of all that a network's state holds (Polyak & Juditsky 1992; running statistics too).

    After step n (from 0) an average a becomes ``d * a + (1 - d) * weight`` with ``d = min(decay, (1 + n) / (10 + n))``,
    so that the first random weights are forgotten. It follows from the steps alone: a resumed run continues it exactly.

    Args:
        module: the network, on its device.
        decay: below 1; the average looks back about 1 / (1 - decay) steps.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        self.own: dict[str, torch.Tensor] | None = None  # the network's own weights while the average is applied

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after step ``step``, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                self.values[name].lerp_(tensor, 1 - decay)
            else:
                self.values[name].copy_(tensor)

    @torch.no_grad()
    def load(self, values: Mapping[str, torch.Tensor]) -> None:
        """Continue from what a checkpoint holds.

        Raises:
            KeyError, RuntimeError: values of another network.
        """
        for name, tensor in self.values.items():
            tensor.copy_(values[name])

    @contextmanager
    def applied(self, module: nn.Module, steady: AbstractContextManager[Any] | None = None) -> Iterator[None]:
        """The network with the averaged weights; afterwards it has its own again, to the bit.

        Args:
            steady: a lock that is held while the weights are exchanged; another thread that holds it finds the
                network's own weights in ``own`` while the average is applied.
        """
        steady = nullcontext() if steady is None else steady
        own = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        try:
            with steady:
                self.own = own
                _fill(module, self.values)
            yield
        finally:
            with steady:
                _fill(module, own)
                self.own = None


@torch.no_grad()
def _fill(module: nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in module.state_dict().items():
        tensor.copy_(values[name])
