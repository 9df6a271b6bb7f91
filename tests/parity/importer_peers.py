"""Peers' own networks with random weights, small enough to compare many."""

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional as F

FLAT = [(64, 64), (65, 71)]
DEEP = [(16, 24, 32), (17, 33, 20)]


def drawn(module, seed=0):
    """The module (made on the meta device) with every tensor drawn, its statistics too."""
    generator = torch.Generator().manual_seed(seed)

    def normal(shape, scale):
        return torch.randn(shape, generator=generator) * scale

    state = {}
    for name, value in module.state_dict().items():
        shape = tuple(value.shape)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros((), dtype=torch.long)
        elif name.endswith("running_var"):
            state[name] = torch.rand(shape, generator=generator) + 0.5
        elif len(shape) > 1:
            state[name] = normal(shape, (2 / max(1, value[0].numel())) ** 0.5)
        elif name.endswith("weight"):
            state[name] = torch.rand(shape, generator=generator) * 0.5 + 0.4
        else:
            state[name] = normal(shape, 0.1)
    module.load_state_dict(state, strict=True, assign=True)
    return module.eval()


class MedicalNetBlock(nn.Module):
    """A block as MedicalNet computes it: the dilation is in the first block too, the shortcut A has no tensors."""

    def __init__(self, inner, width, stride, dilation, *, bottleneck, shortcut):
        super().__init__()
        out = width * (4 if bottleneck else 1)
        three = {"padding": dilation, "dilation": dilation, "bias": False}
        if bottleneck:
            self.conv1 = nn.Conv3d(inner, width, 1, bias=False)
            self.conv2 = nn.Conv3d(width, width, 3, stride=stride, **three)
            self.conv3 = nn.Conv3d(width, out, 1, bias=False)
            self.bn3 = nn.BatchNorm3d(out)
        else:
            self.conv1 = nn.Conv3d(inner, width, 3, stride=stride, **three)
            self.conv2 = nn.Conv3d(width, width, 3, **three)
        self.bn1, self.bn2 = nn.BatchNorm3d(width), nn.BatchNorm3d(width)
        self.bottleneck, self.stride, self.extra = bottleneck, stride, out - inner
        self.changes = stride != 1 or inner != out
        if self.changes and shortcut == "B":
            self.downsample = nn.Sequential(nn.Conv3d(inner, out, 1, stride=stride, bias=False), nn.BatchNorm3d(out))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.bottleneck:
            y = self.bn3(self.conv3(F.relu(y)))
        if hasattr(self, "downsample"):
            x = self.downsample(x)
        elif self.changes:
            x = F.pad(F.avg_pool3d(x, 1, stride=self.stride), (0, 0) * 3 + (0, self.extra))
        return F.relu(y + x)


class MedicalNet(nn.Module):
    """MedicalNet's encoder: stem 2, pooling 2, second stage 2, then dilations 2 and 4; output stride 8.

    ``dilations`` and ``strides`` can be those of an ordinary 3D ResNet, where it must agree with MONAI's.
    """

    def __init__(self, depths, *, bottleneck=False, shortcut="B", strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), stem=2,
                 channels=1, head=True, num_classes=None):  # fmt: skip
        super().__init__()
        self.conv1 = nn.Conv3d(channels, 64, 7, stride=stem, padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        inner = 64
        for number, (depth, width) in enumerate(zip(depths, (64, 128, 256, 512), strict=True)):
            blocks = []
            for index in range(depth):
                stride = strides[number] if index == 0 else 1
                blocks.append(MedicalNetBlock(inner, width, stride, dilations[number], bottleneck=bottleneck,
                                              shortcut=shortcut))  # fmt: skip
                inner = width * (4 if bottleneck else 1)
            setattr(self, f"layer{number + 1}", nn.Sequential(*blocks))
        if head:
            self.conv_seg = nn.Sequential(nn.ConvTranspose3d(inner, 32, 2, stride=2), nn.BatchNorm3d(32))
        if num_classes:
            self.fc = nn.Linear(inner, num_classes)

    def forward(self, x):
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3, 4))) if hasattr(self, "fc") else x


class Wrapped(nn.Module):
    """A network as DataParallel saves it."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x)


@dataclass
class Peer:
    """A peer's network, how it is made, and what is said when it is loaded."""

    make: object
    says: str
    sizes: list = field(default_factory=lambda: FLAT)
    channels: int = 3
    peer: str | None = None
    options: dict = field(default_factory=dict)
    drops: bool = False
    export: str | None = None


def torchvision_net(block, depths, **options):
    from torchvision.models import resnet

    return lambda: resnet.ResNet(getattr(resnet, block), depths, **options)


def timm_net(name, **options):
    import timm

    return lambda: timm.create_model(name, **options)


def monai_net(depths, block="ResNetBlock", **options):
    from monai.networks.nets import resnet

    widths = options.pop("widths", [8, 16, 24, 32])
    return lambda: resnet.ResNet(getattr(resnet, block), depths, widths, **options)


def smp_net(name, **options):
    import segmentation_models_pytorch as smp

    return lambda: smp.Unet(name, encoder_weights=None, **options)


def video_net():
    """r3d_18 with half of its blocks."""
    from torchvision.models.video import resnet

    return resnet.VideoResNet(resnet.BasicBlock, [resnet.Conv3DSimple] * 4, [2, 1, 1, 1], resnet.BasicStem)


ONE = (1, 1, 1, 1)
VOLUME = {"spatial_dims": 3, "n_input_channels": 1, "num_classes": 3}
KENSHOHARA = {**VOLUME, "n_input_channels": 3, "bias_downsample": False, "conv1_t_stride": (1, 2, 2)}
PEERS = {
    "torchvision-basic": Peer(torchvision_net("BasicBlock", [2, 1, 1, 1], num_classes=7), "torchvision-style",
                              export="torchvision"),
    "torchvision-bottleneck": Peer(torchvision_net("Bottleneck", [1, 2, 1, 1]), "torchvision-style",
                                   export="torchvision"),
    "torchvision-resnext": Peer(torchvision_net("Bottleneck", ONE, groups=32, width_per_group=4), "torchvision-style",
                                export="torchvision"),
    "torchvision-wide": Peer(torchvision_net("Bottleneck", ONE, width_per_group=128), "torchvision-style",
                             export="timm"),
    "torchvision-dilated": Peer(
        torchvision_net("Bottleneck", [1, 1, 2, 2], replace_stride_with_dilation=[False, True, True]),
        "torchvision-style", options={"output_stride": 8}, export="torchvision"),
    "torchvision-video": Peer(video_net, "torchvision video", [(8, 32, 32), (5, 33, 40)], export="torchvision"),
    "timm-d": Peer(timm_net("resnet50d", layers=ONE), "timm", export="timm"),
    "timm-18d": Peer(timm_net("resnet18d"), "timm", export="timm"),
    "timm-c": Peer(timm_net("resnet50c", layers=ONE), "timm", export="timm"),
    "timm-se": Peer(timm_net("seresnet50", layers=ONE), "timm", export="timm"),
    "timm-resnext-d": Peer(timm_net("resnext50d_32x4d", layers=(1, 1, 2, 1)), "timm", export="timm"),
    "timm-v2": Peer(timm_net("resnetv2_50", layers=(1, 2, 1, 1)), "timm, pre-activation", export="timm"),
    "timm-group-norm": Peer(timm_net("resnet50_gn", layers=ONE), "timm", peer="timm", export="timm"),
    "timm-tagged-grey": Peer(timm_net("resnet18.a1_in1k", in_chans=1, num_classes=5), "torchvision-style", channels=1,
                             export="timm"),
    "monai-3d": Peer(monai_net([1, 2, 1, 1], **VOLUME), "MONAI", DEEP, channels=1, export="monai"),
    "monai-3d-stride-2": Peer(monai_net([1, 1, 1, 1], "ResNetBottleneck", conv1_t_stride=2, **VOLUME), "MONAI", DEEP,
                              channels=1, options={"strides": (2, 2, 2, 2, 2)}, export="monai"),
    "monai-a": Peer(monai_net([1, 1, 1, 1], shortcut_type="A", **VOLUME), "MONAI", DEEP, channels=1, export="monai"),
    "monai-2d": Peer(monai_net([1, 1, 1, 1], "ResNetBottleneck", spatial_dims=2, n_input_channels=3, num_classes=3),
                     "MONAI", export="monai"),
    "medicalnet-10": Peer(lambda: Wrapped(MedicalNet(ONE)), "MedicalNet", DEEP, channels=1, drops=True,
                          export="medicalnet"),
    "medicalnet-a": Peer(lambda: Wrapped(MedicalNet((2, 1, 1, 2), shortcut="A")), "MedicalNet", DEEP, channels=1,
                         drops=True, export="medicalnet"),
    "medicalnet-bottleneck": Peer(lambda: Wrapped(MedicalNet((1, 1, 2, 1), bottleneck=True)), "MedicalNet", DEEP,
                                  channels=1, drops=True, export="medicalnet"),
    "kenshohara": Peer(monai_net([1, 1, 2, 1], "ResNetBottleneck", **KENSHOHARA), "kenshohara 3D ResNets", DEEP,
                       peer="kenshohara", export="kenshohara"),
    "smp-resnet18": Peer(smp_net("resnet18", classes=2), "segmentation_models_pytorch", export="smp"),
    "smp-resnet50": Peer(smp_net("resnet50", classes=3), "segmentation_models_pytorch", export="smp"),
    "smp-resnext50-cut": Peer(
        smp_net("resnext50_32x4d", encoder_depth=4, decoder_channels=(32, 24, 16, 8), in_channels=1),
        "segmentation_models_pytorch", channels=1),
}  # fmt: skip
