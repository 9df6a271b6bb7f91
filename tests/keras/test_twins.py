"""The same tensors in PyTorch and in Keras give the same numbers, on every backend; counts and names are exact."""

import math

LIMIT = 1e-4  # of the largest value, in float32


def test_output_and_maps_agree_with_pytorch(keras_runs, twin):
    backend, case = twin
    result = keras_runs.of(backend)["cases"][case]
    assert "failed" not in result, result["failed"]
    differences = [d for at_size in result["differences"].values() for d in at_size.values()]
    assert differences
    assert max(differences) < LIMIT, result["differences"]
    assert all(math.isfinite(difference) for difference in differences)


def test_counts_are_the_blueprints_and_tensors_come_back_bit_identical(keras_runs, twin):
    backend, case = twin
    result = keras_runs.of(backend)["cases"][case]
    assert "failed" not in result, result["failed"]
    trainable, parameters = result["trainable"]
    counted, whole = result["all"]
    assert trainable == parameters > 0
    assert counted == whole >= parameters
    assert result["bit_identical"]
    assert result["names_in_order"]


def test_a_model_behaves(keras_runs, check):
    backend, name = check
    result = keras_runs.of(backend)["checks"][name]
    assert "failed" not in result, result["failed"]


def test_one_seed_gives_one_network_on_every_backend(keras_runs):
    sums = [keras_runs.of(backend)["checks"]["check_initial_values"]["returned"] for backend in ("torch", "jax")]
    assert sums[0] == sums[1]
    assert sums[0] == keras_runs.of("tensorflow")["checks"]["check_initial_values"]["returned"]
    assert len(sums[0]) > 100


def test_every_row_of_the_catalog_is_among_the_cases(keras_runs):
    from resvox.catalog import VARIANTS

    wanted = {f"{row.name}-{dims}d" for row in VARIANTS for dims in (2, 3)}
    assert wanted <= set(keras_runs.of("torch")["cases"])
