"""Every row at its own widths and depths, in 2D and 3D, on every backend: half an hour or more (``make laws``)."""

import pytest

LIMIT = 1e-4


@pytest.fixture(scope="module")
def full_runs(tmp_path_factory, start_keras_runs):
    runs = start_keras_runs(tmp_path_factory.mktemp("full-twins"), "full")
    yield runs
    runs.stop()


@pytest.mark.laws
@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_every_network_agrees_at_full_size(full_runs, backend):
    cases = full_runs.of(backend)["cases"]
    assert len(cases) > 70
    failed = {case: result["failed"] for case, result in cases.items() if "failed" in result}
    assert not failed
    worst = {case: max(d for at in r["differences"].values() for d in at.values()) for case, r in cases.items()}
    assert max(worst.values()) < LIMIT, {case: d for case, d in worst.items() if d >= LIMIT}
    for case, result in cases.items():
        assert result["trainable"][0] == result["trainable"][1], case
        assert result["all"][0] == result["all"][1], case
        assert result["bit_identical"], case


@pytest.mark.laws
def test_the_differences_make_a_table(full_runs, twin_table, capsys):
    text = twin_table({backend: full_runs.of(backend) for backend in ("torch", "jax", "tensorflow")})
    with capsys.disabled():  # to be kept in the docs
        print(f"\n{text}")
    assert "failed" not in text
