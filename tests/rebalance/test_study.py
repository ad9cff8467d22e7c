"""The stability study runs: a small one from noise to tables and figure."""

import numpy as np

from tests.benchmarks import amlr_stability as study


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
