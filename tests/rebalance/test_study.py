"""The stability study runs, and the PINN benchmark has the right solutions."""

import jax.numpy as jnp
import numpy as np

from tests.benchmarks import amlr_stability as study
from tests.benchmarks import pinn


def test_a_small_study_from_noise_to_tables_and_figure(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(study, "STEPS", 12 * study.RECORD)
    monkeypatch.setattr(study, "TIMESTEPS", {"batch": 1, "epoch": 100})
    results = study.simulate_all(2)
    runs = results["log_amlr", "batch"]
    assert runs["path"].shape == (2, 2, 5, 2, 12, 2)
    assert (runs["low"] <= 1).all() and (runs["high"] >= 1).all()
    assert not np.isinf(study.departures(runs)).any()

    study.print_tables(results)
    table = capsys.readouterr().out
    assert table.count("| `log_amlr` |") == 20
    assert "| batch | 1e-02 |" in table
    study.draw(results, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_factors_read_as_percentages_when_small():
    assert [study.factor(x) for x in (1.018, 57.8, np.inf)] == [
        "1.8 %",
        "x 57.8",
        "<= 0",
    ]


def test_reference_solutions_of_the_pinn_benchmark_keep_their_conditions():
    x, t = np.linspace(-1, 1, 9), np.array([0.0, 0.5])
    burgers = pinn.burgers_reference(t, x)
    allen_cahn = pinn.allen_cahn_reference(t, x, modes=64)
    np.testing.assert_allclose(burgers[0], -np.sin(np.pi * x), atol=1e-12)
    np.testing.assert_allclose(burgers[1, [0, 4, 8]], 0, atol=1e-12)
    np.testing.assert_allclose(allen_cahn[0], x**2 * np.cos(np.pi * x), atol=1e-12)
    np.testing.assert_allclose(allen_cahn[1, 0], allen_cahn[1, 8], atol=1e-9)

    def exact(points):
        return jnp.prod(jnp.sin(jnp.pi * jnp.array(pinn.WAVES) * points), -1)

    points = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (4, 2)), float)
    residuals = pinn.helmholtz(exact, points, points)
    assert max(jnp.abs(r).max() for r in residuals.values()) < 1e-3
