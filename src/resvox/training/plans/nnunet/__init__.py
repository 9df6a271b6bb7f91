"""nnU-Net's planning as arithmetic (Isensee et al. 2021, Nat. Methods 18:203, and 2024, arXiv:2404.09556)."""
