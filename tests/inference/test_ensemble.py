import numpy as np
import pytest

from resvox.errors import InferenceError
from resvox.inference import EnsembleEngine


def test_an_ensemble_is_the_mean_of_its_logits_though_an_engine_reuses_its_memory():
    memory = np.empty((1, 2, 4, 4), np.float32)

    def reusing(value):
        def answer(windows):
            memory[...] = value
            return memory

        return answer

    answer = EnsembleEngine([reusing(1), reusing(2), reusing(6)])(np.zeros((1, 1, 4, 4), np.float32))
    np.testing.assert_allclose(answer, 3)


def test_engines_of_other_classes_and_none_are_refused():
    ensemble = EnsembleEngine([lambda w: np.zeros((1, 2, 4, 4)), lambda w: np.zeros((1, 3, 4, 4))])
    with pytest.raises(InferenceError, match=r"\(1, 3, 4, 4\) beside \(1, 2, 4, 4\)"):
        ensemble(np.zeros((1, 1, 4, 4), np.float32))
    with pytest.raises(InferenceError, match="an ensemble of no engines"):
        EnsembleEngine([])
