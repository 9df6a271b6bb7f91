"""Leaves of a blueprint as PyTorch modules; all numbers come from the blueprint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional as F

from resvox.blueprint import leaves as lf
from resvox.blueprint.blocks import ZeroPadShortcut
from resvox.blueprint.monai.networks import OutputPaddedConv, PReLU
from resvox.blueprint.node import Node, Sequence
from resvox.errors import BlueprintError

CONV: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED_CONV: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH_NORM: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX_POOL: dict[int, Any] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
LINEAR_MODE = {2: "bilinear", 3: "trilinear"}

# torch.fx records a call of these instead of tracing into them: they use sizes, which it does not know. Every module
# that imports one of them wraps it again, because torch.fx looks up the name where it is used.
torch.fx.wrap("cut_to")
torch.fx.wrap("_average")
torch.fx.wrap("_drop_samples")
torch.fx.wrap("_instance_norm")
torch.fx.wrap("_trilinear")


def layer(node: Node | None, spatial_dims: int) -> nn.Module:
    """The module of a leaf, of a sequence of leaves, or (``None``) of an absent one."""
    if node is None:
        return nn.Identity()
    if isinstance(node, Sequence):
        return nn.Sequential(*(layer(item, spatial_dims) for item in node.items))
    spell = _SPELLINGS.get(type(node))
    if spell is None:
        raise BlueprintError(f"{type(node).__name__} as a layer", expected="a leaf of a blueprint")
    return spell(node, spatial_dims)


def _conv(node: lf.Conv, dims: int) -> nn.Module:
    return CONV[dims](
        node.in_channels,
        node.out_channels,
        node.kernel,
        stride=node.stride,
        padding=node.padding,
        dilation=node.dilation,
        groups=node.groups,
        bias=node.bias,
    )


def _transposed_conv(node: lf.TransposedConv, dims: int) -> nn.Module:
    return TRANSPOSED_CONV[dims](
        node.in_channels,
        node.out_channels,
        node.kernel,
        stride=node.stride,
        padding=node.padding,
        output_padding=node.output_padding if isinstance(node, OutputPaddedConv) else 0,
        bias=node.bias,
    )


# PyTorch's forward of these three rejects a single voxel even in eval mode, where the result is defined (the bias);
# it occurs in a U-Net on a small volume. So these are PyTorch's modules with the plain operation.


class InstanceNorm2d(nn.InstanceNorm2d):
    """Instance norm that also supports a map of one voxel, where every value becomes the bias."""

    def forward(self, input: Tensor) -> Tensor:
        return _instance_norm(input, self.weight, self.bias, self.eps)


class InstanceNorm3d(nn.InstanceNorm3d):
    """Instance norm that also supports a map of one voxel, where every value becomes the bias."""

    def forward(self, input: Tensor) -> Tensor:
        return _instance_norm(input, self.weight, self.bias, self.eps)


def _instance_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Each channel of each sample to mean 0 and variance 1, then weight and bias.

    On the CPU the gradient of ``torch.group_norm`` takes up to nine times as long for maps with channels last as that
    of a batch norm of each sample, which is the same arithmetic. On a GPU autocast computes ``torch.group_norm`` in
    float32, three times the memory traffic of ``torch.instance_norm``. Predictions keep the bits of the former.
    """
    if not torch.jit.is_scripting():
        if _trains_channels_last(x):
            made = [torch.batch_norm(each, weight, bias, None, None, True, 0.0, eps, False) for each in x.split(1)]
            return made[0] if len(made) == 1 else torch.cat(made)
        if _trains_on_cuda(x):
            return torch.instance_norm(x, weight, bias, None, None, True, 0.0, eps, torch.backends.cudnn.enabled)
    return torch.group_norm(x, x.shape[1], weight, bias, eps)


def _trains_channels_last(x: Tensor) -> bool:
    """Whether gradients are wanted of a map on the CPU whose channels are last in memory, and no graph is recorded."""
    if not (x.requires_grad and torch.is_grad_enabled() and x.device.type == "cpu"):
        return False
    if torch.jit.is_tracing() or torch.compiler.is_compiling() or x.dim() not in (4, 5):
        return False
    layout = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
    return x.is_contiguous(memory_format=layout) and not x.is_contiguous()


def _trains_on_cuda(x: Tensor) -> bool:
    """Whether gradients are wanted of a map on a GPU, and no graph is recorded."""
    is_wanted = x.is_cuda and x.requires_grad and torch.is_grad_enabled()
    return is_wanted and not (torch.jit.is_tracing() or torch.compiler.is_compiling())


def use_torch_instance_norms(model: nn.Module) -> None:
    """Compute the instance norms of a model by PyTorch's own operation, in place.

    Its results differ from those of ``torch.group_norm`` in the last bit, and it rejects a map of one voxel.
    """
    for each in model.modules():
        if isinstance(each, InstanceNorm2d | InstanceNorm3d):
            each.__class__ = type(each).__bases__[0]  # type: ignore[assignment]


class GroupNorm(nn.GroupNorm):
    """Group norm that also supports a map of one voxel."""

    def forward(self, input: Tensor) -> Tensor:
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def _norm(node: lf.Norm, dims: int) -> nn.Module:
    if node.kind == "batch":
        return BATCH_NORM[dims](node.channels, eps=node.eps, momentum=node.momentum, affine=node.affine)
    if node.kind == "group":
        return GroupNorm(node.groups, node.channels, eps=node.eps, affine=node.affine)
    kind = InstanceNorm2d if dims == 2 else InstanceNorm3d
    return kind(node.channels, eps=node.eps, affine=node.affine)


# Not in place: PyTorch's full backward hooks (Grad-CAM, captum, shap) forbid overwriting the output of a hooked layer.
# Autograd stores one map per activation either output; prediction, which has no hooks, works in place (folding.py).
_ACTIVATIONS: dict[str, Callable[[lf.Activation], nn.Module]] = {
    "identity": lambda node: nn.Identity(),
    "relu": lambda node: nn.ReLU(),
    "leaky_relu": lambda node: nn.LeakyReLU(node.slope),
    "elu": lambda node: nn.ELU(node.slope),
    "gelu": lambda node: nn.GELU(),
    "silu": lambda node: nn.SiLU(),
    "sigmoid": lambda node: nn.Sigmoid(),
    "softmax": lambda node: nn.Softmax(dim=1),
    "tanh": lambda node: nn.Tanh(),
}


def _activation(node: lf.Activation, dims: int) -> nn.Module:
    return _ACTIVATIONS[node.kind](node)


def _max_pool(node: lf.MaxPool, dims: int) -> nn.Module:
    return MAX_POOL[dims](node.kernel, stride=node.stride, padding=node.padding)


class ZeroPaddedMaxPool(nn.Module):
    """Max pooling with zero padding."""

    def __init__(self, node: lf.ZeroPaddedMaxPool, spatial_dims: int) -> None:
        super().__init__()
        self.zeros = [n for p in reversed(node.padding) for n in (p, p)]  # last axis first, as in PyTorch's padding
        self.pool = MAX_POOL[spatial_dims](node.kernel, stride=node.stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(F.pad(x, self.zeros))


class AveragePool(nn.Module):
    """Mean over windows; a partial window at the far border of an axis that strides averages its voxels."""

    __constants__ = ("continues", "open_sizes")

    def __init__(self, node: lf.AveragePool) -> None:
        super().__init__()
        # True makes a graph of fixed operations that takes a map smaller than the window too, for a few more of them
        self.open_sizes = False
        self.kernel, self.stride = list(node.kernel), list(node.stride)
        # zeros at the far border of the axes that do not stride, last axis first as in PyTorch's padding
        beyond = [k - s for k, s in zip(node.kernel, node.stride, strict=True)]
        self.zeros = [n for b in reversed(beyond) for n in (0, b)]
        self.continues = max(beyond) > 0

    def forward(self, x: Tensor) -> Tensor:
        if self.continues:
            x = F.pad(x, self.zeros)
        if self.open_sizes:
            return _average_of_any(x, self.kernel, self.stride)
        return _average(x, self.kernel, self.stride)


def _average_of_any(x: Tensor, kernel: list[int], stride: list[int]) -> Tensor:
    """Average pooling by sums: with stride - 1 zeros beyond it a window starts wherever the map still has a voxel."""
    pads: list[int] = []
    for step in stride[::-1]:
        pads += [0, step - 1]
    share, x = F.pad(torch.ones_like(x[:1, :1]), pads), F.pad(x, pads)
    if x.dim() == 4:
        return F.avg_pool2d(x, kernel, stride) / F.avg_pool2d(share, kernel, stride)
    return F.avg_pool3d(x, kernel, stride) / F.avg_pool3d(share, kernel, stride)


def _average(x: Tensor, kernel: list[int], stride: list[int]) -> Tensor:
    """Average pooling whose windows may be larger than the map."""
    if min(x.shape[2:]) < max(kernel):  # PyTorch rejects a volume smaller than the window
        kernel = [min(k, n) for k, n in zip(kernel, x.shape[2:])]  # noqa: B905 (TorchScript has no strict zip)
    if x.dim() == 4:
        return F.avg_pool2d(x, kernel, stride, 0, True, False)
    if x.device.type == "cpu" and (x.dtype == torch.bfloat16 or x.dtype == torch.float16):
        # PyTorch's CPU kernel in 3D does not support 16-bit types
        return F.avg_pool3d(x.float(), kernel, stride, 0, True, False).to(x.dtype)
    return F.avg_pool3d(x, kernel, stride, 0, True, False)


class GlobalAveragePool(nn.Module):
    """Global average pooling: (batch, channels, \\*size) to (batch, channels)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(x, 2).mean(2)


def _upsample(node: lf.Upsample, dims: int) -> nn.Module:
    if max(node.scale) == 1:
        return nn.Identity()
    factors = tuple(float(s) for s in node.scale)
    if node.mode == "nearest":
        return nn.Upsample(scale_factor=factors, mode="nearest")
    if dims == 3:
        return TrilinearUpsample(factors)
    return nn.Upsample(scale_factor=factors, mode=LINEAR_MODE[dims], align_corners=False)


class TrilinearUpsample(nn.Module):
    """Trilinear interpolation that torch.fx's quantization keeps in float, for which alone PyTorch has a kernel."""

    def __init__(self, factors: tuple[float, ...]) -> None:
        super().__init__()
        self.factors = list(factors)

    def forward(self, x: Tensor) -> Tensor:
        return _trilinear(x, self.factors)


def _trilinear(x: Tensor, factors: list[float]) -> Tensor:
    return F.interpolate(x, scale_factor=factors, mode="trilinear", align_corners=False)


class DropPath(nn.Module):
    """Stochastic depth: in training the branch of a sample is dropped with probability ``rate``, others are scaled."""

    __constants__ = ("rate",)

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return _drop_samples(x, self.rate) if self.training else x


def _drop_samples(x: Tensor, rate: float) -> Tensor:
    kept = 1.0 - rate
    mask = torch.empty([x.shape[0]] + [1] * (x.dim() - 1), dtype=x.dtype, device=x.device)
    return x * mask.bernoulli_(kept) / kept


class ZeroPad(nn.Module):
    """The parameter-free shortcut: every stride-th voxel, new channels zero. Gradient flows through it."""

    __constants__ = ("extra",)

    def __init__(self, node: ZeroPadShortcut) -> None:
        super().__init__()
        dims = len(node.stride)
        # A pooling with kernel 1 is the slice [::stride], in any number of axes.
        self.pick = MAX_POOL[dims](1, stride=node.stride) if max(node.stride) > 1 else nn.Identity()
        self.extra = node.out_channels - node.in_channels
        self.repeats = [1, self.extra] + [1] * dims

    def forward(self, x: Tensor) -> Tensor:
        x = self.pick(x)
        if self.extra == 0:
            return x
        zeros = torch.zeros_like(x[:, :1]).repeat(self.repeats)
        return torch.cat([x, zeros], 1)


_SPELLINGS: dict[type[Node], Callable[[Any, int], nn.Module]] = {
    lf.Conv: _conv,
    lf.TransposedConv: _transposed_conv,
    OutputPaddedConv: _transposed_conv,
    PReLU: lambda node, dims: nn.PReLU(),
    lf.Norm: _norm,
    lf.Activation: _activation,
    lf.MaxPool: _max_pool,
    lf.ZeroPaddedMaxPool: ZeroPaddedMaxPool,
    lf.AveragePool: lambda node, dims: AveragePool(node),
    lf.GlobalAveragePool: lambda node, dims: GlobalAveragePool(),
    lf.Upsample: _upsample,
    lf.Linear: lambda node, dims: nn.Linear(node.in_features, node.out_features, bias=node.bias),
    lf.DropPath: lambda node, dims: DropPath(node.rate),
    lf.Dropout: lambda node, dims: nn.Dropout(node.rate),
    lf.Identity: lambda node, dims: nn.Identity(),
    ZeroPadShortcut: lambda node, dims: ZeroPad(node),
}


def cut_to(x: Tensor, reference: Tensor) -> Tensor:
    """Crop ``x`` at the far end of each axis to the spatial size of ``reference``.

    A strided layer turns n into ceil(n / 2), so an enlarged map is never smaller than its skip; where the strides
    divide the size nothing is cropped.
    """
    if torch.jit.is_tracing():  # for OpenVINO, which does not run negative padding with open sizes
        return _corner(x, reference)
    # Negative padding instead of a slice: with a slice, an exported graph would be valid only for divisible sizes, or
    # only for others, like the size of the example.
    cut: list[int] = []
    for axis in range(x.dim() - 1, 1, -1):
        cut += [0, reference.shape[axis] - x.shape[axis]]
    return F.pad(x, cut)


def _corner(x: Tensor, reference: Tensor) -> Tensor:
    for axis in range(2, x.dim()):
        x = x.narrow(axis, 0, reference.shape[axis])
    return x
