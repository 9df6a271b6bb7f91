"""One set of weights in two networks: ours, and a peer's own."""

import torch

from resvox.catalog import get_blueprint
from resvox.torch import build

TOLERANCE = 1e-5  # of the largest value
FLAT = [(64, 64), (65, 71)]
DEEP = [(32, 33, 40)]


def ours(name, **options):
    """Our network with weights and running statistics that leave no layer without effect."""
    torch.manual_seed(0)
    model = build(get_blueprint(name, **options))
    norms = [m for m in model.modules() if hasattr(m, "eps") and getattr(m, "weight", None) is not None]
    for norm in norms:
        norm.weight.data.uniform_(0.5, 1.5)
        norm.bias.data.normal_(0, 0.1)
    running = [norm for norm in norms if hasattr(norm, "running_mean") and norm.running_mean is not None]
    settle(model, running)
    for norm in running:  # away from what the data gives, so that a statistic that is not used shows
        norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
        norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.8, 1.25)
    return model.eval()


def settle(model, running):
    """Statistics of real activations: with drawn ones a deep network's values would run away."""
    for norm in running:
        norm.momentum = 1.0
    blueprint = model.blueprint
    size = (64, 64) if blueprint.spatial_dims == 2 else (36, 40, 36)
    with torch.no_grad():
        model.train()(torch.randn(2, blueprint.in_channels, *size))
    for norm in running:
        norm.momentum = 0.1


def on_meta(make, *arguments, **options):
    """A peer's network without its initial values: the weights are ours."""
    with torch.device("meta"):
        return make(*arguments, **options).eval()


def take(peer, state):
    """The peer takes every tensor of the state, and has no other."""
    peer.load_state_dict(state, strict=True, assign=True)
    assert not [name for name, value in (*peer.named_parameters(), *peer.named_buffers()) if value.is_meta]
    return peer


def difference(model, peer, sizes):
    """The largest difference of the two outputs over sizes, relative to the largest value."""
    largest = 0.0
    for size in sizes:
        x = torch.randn(2, model.blueprint.in_channels, *size)
        with torch.no_grad():
            a, b = model(x), peer(x)
        assert a.shape == b.shape
        assert bool(b.isfinite().all())
        assert float(b.abs().max()) > 1e-3
        largest = max(largest, float((a - b).abs().max() / b.abs().max()))
    return largest
