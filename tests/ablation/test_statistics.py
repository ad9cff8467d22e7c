"""Mean, spread and paired differences against SciPy, and the tables."""

import json

import numpy as np
import pytest
from scipy import stats

from amlr_jax.ablation import table
from amlr_jax.ablation.study import Study, StudyRow, StudyRun, folder_of, published
from amlr_jax.ablation.table import statistics
from amlr_jax.runtime.errors import InputError

METRICS = ("abs_rel", "d1")
FIRST, SECOND = StudyRun("first", "a.py"), StudyRun("second", "b.py")
STUDY = Study(
    "A title",
    ("loss", "weight"),
    [
        StudyRow(("one", "1"), FIRST, published(0.05, 0.9, names=METRICS)),
        StudyRow(("two", "2"), SECOND),
    ],
    METRICS,
    "A note.",
)


def write(output, run: str, seed: int, abs_rel: float, d1: float, head=None) -> None:
    folder = folder_of(output, run, seed)
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {"abs_rel": abs_rel, "d1": d1, "rmse": 1.0}
    name, value = "evaluation.json", {"metrics": metrics}
    if head is not None:
        heads = [{"metrics": metrics}] * (head + 1)
        name, value = "resolutions.json", {"resolutions": heads}
    (folder / name).write_text(json.dumps(value))


@pytest.fixture
def output(tmp_path):
    rng = np.random.default_rng(0)
    for seed in range(4):
        shared = rng.normal(0, 0.02)
        for run, low in (("first", 0.2), ("second", 0.17)):
            noise = rng.normal(0, 0.002)
            write(tmp_path, run, seed, low + shared + noise, 0.8 - shared)
    return tmp_path


def test_equal_scipys_paired_test(output):
    first, second = statistics(STUDY, output, range(4))
    a, b = first.values["abs_rel"], second.values["abs_rel"]
    assert second.mean["abs_rel"] == pytest.approx(np.mean(b), rel=1e-12)
    assert second.spread["abs_rel"] == pytest.approx(stats.tstd(b), rel=1e-12)
    interval = stats.ttest_rel(b, a).confidence_interval(0.95)
    middle, half = second.change["abs_rel"], second.interval["abs_rel"]
    assert middle - half == pytest.approx(interval.low, rel=1e-9)
    assert middle + half == pytest.approx(interval.high, rel=1e-9)
    # The spread over seeds is larger than the difference; paired, it shows.
    assert abs(middle) < 2 * first.spread["abs_rel"]
    assert second.differs("abs_rel")
    assert not second.differs("d1")
    assert not first.differs("abs_rel")


def test_seeds_that_only_one_row_has_do_not_pair(output):
    write(output, "second", 9, 0.9, 0.1)
    _, second = statistics(STUDY, output, [*range(4), 9])
    _, without = statistics(STUDY, output, range(4))
    assert second.seeds == [0, 1, 2, 3, 9]
    assert second.change == without.change
    assert second.mean["abs_rel"] > without.mean["abs_rel"]


def test_one_seed_has_no_spread_and_no_claim(tmp_path):
    write(tmp_path, "first", 0, 0.2, 0.8)
    write(tmp_path, "second", 0, 0.1, 0.9)
    rows = statistics(STUDY, tmp_path, [0])
    assert not rows[1].differs("abs_rel")
    text = table.markdown(STUDY, rows)
    assert "| two | 2 | 1 | **0.100** | **0.900** |  |" in text
    assert "nan" not in text


def test_rows_of_side_outputs(tmp_path):
    write(tmp_path, "first", 0, 0.3, 0.5, head=1)
    study = STUDY._replace(rows=[StudyRow(("low", "1"), FIRST, head=1)])
    (only,) = statistics(study, tmp_path, [0])
    assert only.mean["abs_rel"] == 0.3


def test_markdown_has_the_papers_rows_and_what_is_missing(output):
    text = table.markdown(STUDY, statistics(STUDY, output, [0, 1, 2]))
    assert text.startswith("# A title\n")
    assert "| loss | weight | seeds | Abs Rel ↓ | δ1 ↑ | Abs Rel - row 1 |" in text
    assert "| one | 1 | paper | 0.050 | 0.900 |  |" in text
    (first,) = [line for line in text.splitlines() if line.startswith("| one | 1 | 3")]
    assert first.endswith(" |  |")  # no difference to itself
    assert text.rstrip().endswith("A note.")
    nothing = table.markdown(STUDY, statistics(STUDY, output / "no", [0]))
    assert "| two | 2 | 0 | - | - |  |" in nothing


def test_best_is_small_for_errors_and_large_for_shares(tmp_path):
    write(tmp_path, "first", 0, 0.2, 0.9)
    write(tmp_path, "second", 0, 0.1, 0.8)
    rows = statistics(STUDY, tmp_path, [0])
    first, _, second = table.cells(STUDY, rows)
    assert [cell.startswith("**") for cell in first[3:5]] == [False, True]
    assert [cell.startswith("**") for cell in second[3:5]] == [True, False]


def test_json_and_picture(output):
    rows = statistics(STUDY, output, [0, 1, 2])
    table.write(STUDY, output, [0, 1, 2])
    made = json.loads((output / "table.json").read_text())
    assert made["rows"][1]["measured"]["seeds"] == [0, 1, 2]
    assert (output / "table.md").read_text() == table.markdown(STUDY, rows)
    four = STUDY._replace(metrics=(*METRICS, "abs_rel", "d1"))
    table.write_picture(four, rows, output / "table.png")
    assert (output / "table.png").stat().st_size > 1000


def test_a_damaged_result_is_named(output):
    path = folder_of(output, "first", 0) / "evaluation.json"
    path.write_text("{")
    with pytest.raises(InputError, match="evaluation.json' has no metrics"):
        statistics(STUDY, output, [0])
