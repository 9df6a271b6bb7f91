"""The network inside what PyTorch wraps around it: compiled, averaged, distributed."""

from __future__ import annotations

from typing import Any

from torch import nn

# class of a wrapper that computes what the module inside computes -> where that module is. By name, so that none of
# them is imported.
_WRAPPERS = {
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch.optim.swa_utils.AveragedModel": "module",
    "lightning.fabric.wrappers._FabricModule": "module",
    "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.CheckpointWrapper": "_checkpoint_wrapped_module",
}
# what wrappers of inner modules add to the names of tensors
SEGMENTS = ("_orig_mod.", "_checkpoint_wrapped_module.")


def unwrapped(module: Any) -> Any:
    """The module inside all wrappers that compute the same; any other module as it is."""
    while isinstance(module, nn.Module):
        kind = type(module)
        attribute = _WRAPPERS.get(f"{kind.__module__}.{kind.__qualname__}")
        if attribute is None:
            break
        module = getattr(module, attribute)
    return module


def without_wrappers(name: str) -> str:
    """The name of a tensor as it is without wrappers around inner modules."""
    for segment in SEGMENTS:
        name = name.replace(segment, "")
    return name
