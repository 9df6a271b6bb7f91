"""The laws: each takes a model and its blueprint and raises AssertionError where they disagree."""

from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

COUNTER = "num_batches_tracked"
SILENT = ("Identity", "DropPath", "Dropout")


def check_counts(model, blueprint):
    """Parameters and statistics of the blueprint are those of the module."""
    parameters = sum(p.numel() for p in model.parameters())
    statistics = sum(b.numel() for name, b in model.named_buffers() if not name.endswith(COUNTER))
    assert (parameters, statistics) == (blueprint.parameters, blueprint.statistics)


def check_names(model, blueprint):
    """Names, shapes, roles and order of the blueprint's tensors are those of the state dict; none is there twice."""
    learned = dict(model.named_parameters())
    state = {name: value for name, value in model.state_dict(keep_vars=True).items() if not name.endswith(COUNTER)}
    found = [(name, tuple(value.shape), name in learned) for name, value in state.items()]
    assert found == [(name, s.shape, s.role == "parameter") for name, s in blueprint.tensors().items()]
    assert len({id(value) for value in state.values()}) == len(state)


def check_walk(model, blueprint, size):
    """FLOPs and the output shape, input shape and order of every operation are those of a real forward pass."""
    seen, handles = [], []
    for name, module in operations(model):
        handles.append(
            module.register_forward_hook(
                lambda module, given, out, name=name: seen.append((name, tuple(given[0].shape), tuple(out.shape)))
            )
        )
    device = next(model.parameters()).device
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter, supervising(model):
        model(torch.zeros(1, blueprint.in_channels, *size, device=device))
    for handle in handles:
        handle.remove()
    rows = [row for top in blueprint.stages(size) for row in top.walk() if not row.children]
    rows = [row for row in rows if not row.operation.endswith("upsampling, 1")]  # nothing is done there
    told = [(row.name, row.input_shape, output_shape(row)) for row in rows]
    assert [name for name, _, _ in seen] == [name for name, _, _ in told]
    assert seen == told
    assert counter.get_total_flops() == blueprint.flops(size)


@contextmanager
def supervising(model):
    """The model, not its layers, in training where it has heads for that: they run then, and norms stay as they are."""
    before, model.training = model.training, model.training or getattr(model, "supervised", False)
    try:
        yield
    finally:
        model.training = before


def operations(model):
    """The modules that compute something, by name."""
    for name, module in model.named_modules():
        leaf = not list(module.children()) and not name.endswith(".pick")
        if type(module).__name__ == "ZeroPad" or (leaf and type(module).__name__ not in SILENT):
            yield name, module


def output_shape(row):
    """As the module has it: the walk keeps an axis of one voxel where the mean leaves none."""
    return row.output_shape[:2] if row.operation == "global average pooling" else row.output_shape


def check_gradients(model, blueprint, size):
    """In training, what is asked of the output reaches every parameter."""
    torch.manual_seed(0)
    model.train()
    result = model(torch.randn(2, blueprint.in_channels, *size))
    maps = result if isinstance(result, list) else [result]
    sum((each * torch.randn_like(each)).sum() for each in maps).backward()
    unreached = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert unreached == []
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())


def check_no_batch_norm(model, kind):
    """Every norm of the module is of the kind asked for, and there are norms."""
    norms = [m for m in model.modules() if isinstance(m, (nn.modules.batchnorm._NormBase, nn.GroupNorm))]
    wanted = {"instance": nn.modules.instancenorm._InstanceNorm, "group": nn.GroupNorm}[kind]
    assert norms
    assert [type(m).__name__ for m in norms if not isinstance(m, wanted)] == []
