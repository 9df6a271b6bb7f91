"""resvox, nnU-Net and MONAI on six BRATS patients, in three folds of two held-out patients, at equal time.

    git clone --depth 1 https://github.com/deepmedic/deepmedic
    python benchmarks/learning/brats_data.py deepmedic brats.xz
    python benchmarks/learning/brats.py WORK --packed brats.xz --budget 900 --spacing 2          # two cores, 2.5 hours
    python benchmarks/learning/brats.py WORK --packed brats.xz --budget 600 --device cuda --at-once 3
    python benchmarks/learning/brats.py WORK --packed brats.xz --budget 900 --spacing 2 --report learned.md

The two channels are FLAIR and T1 with contrast agent, at 1 mm; regions are the whole tumour, its core and the enhancing
part. Every framework has the same four patients to train on in a fold, the same cores and the same seconds from its
first step on; reading and preparing the data is outside of them. The same command goes on after an interruption: a fold
that is done is not trained again, and a patient that is scored not scored again.
"""

from __future__ import annotations

from brats_data import FOLDS, write_folds
from comparison import Study, compare

STUDY = Study(
    title="BRATS: six patients in three folds",
    data="Three folds of two held-out patients of six; whole tumour, core and enhancing part.",
    write_folds=write_folds,
    folds=len(FOLDS),
    text=__doc__ or "",
)

if __name__ == "__main__":
    compare(STUDY)
