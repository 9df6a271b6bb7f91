"""Model folders of nnU-Net v2, read without nnU-Net, without environment variables and without unpickling code.

Every class is a frozen record of what a folder states; nothing here computes. Axes are those of nnU-Net's plans:
spacing and patch size are in the transposed order (``transpose_forward`` applied to the file's z, y, x).
"""

from resvox.weights.nnunet.checkpoint import NnunetCheckpoint, read_checkpoint
from resvox.weights.nnunet.dataset import NnunetDataset
from resvox.weights.nnunet.folder import NnunetFolder, is_nnunet, open_nnunet
from resvox.weights.nnunet.loading import load_fold, nnunet_blueprint
from resvox.weights.nnunet.network import NnunetNetwork
from resvox.weights.nnunet.plans import NnunetConfiguration, NnunetIntensity, NnunetPlans, NnunetResampling

__all__ = [
    "NnunetCheckpoint",
    "NnunetConfiguration",
    "NnunetDataset",
    "NnunetFolder",
    "NnunetIntensity",
    "NnunetNetwork",
    "NnunetPlans",
    "NnunetResampling",
    "is_nnunet",
    "load_fold",
    "nnunet_blueprint",
    "open_nnunet",
    "read_checkpoint",
]
