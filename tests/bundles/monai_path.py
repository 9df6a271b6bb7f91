"""MONAI's own way through a bundle: its ``ConfigParser`` runs the same configuration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import decollate_batch, list_data_collate


def label_map(bundle: Path, scans: list[Path], *, whole: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The label map of a scan in our order of axes, and the network's outputs (outputs, x, y, z) on its own grid.

    Args:
        bundle: the folder.
        scans: the files of one case, one per channel.
        whole: what the post-processing makes as it is, (outputs, *spatial), instead of a label map.
    """
    config = next((bundle / "configs").glob("inference.*"))
    parser = ConfigParser()
    parser.read_config(str(config))
    # a card would be used where there is one, in another precision
    parser["device"] = "$torch.device('cpu')"
    post = parser["postprocessing"]["transforms"]
    parser["postprocessing"]["transforms"] = [each for each in post if each["_target_"] != "SaveImaged"]
    prepare, inferer = parser.get_parsed_content("preprocessing"), parser.get_parsed_content("inferer")
    finish = parser.get_parsed_content("postprocessing")
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
    names = [str(scan) for scan in scans]
    batch = list_data_collate([prepare({"image": names if len(names) > 1 else names[0]})])
    with torch.no_grad():
        batch["pred"] = inferer(batch["image"], network)
    outputs = batch["pred"][0].numpy().copy()
    made = np.transpose(finish(decollate_batch(batch)[0])["pred"].numpy(), (0, 3, 2, 1))
    return (made if whole else made[0].round().astype(int)), outputs
