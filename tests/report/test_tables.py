"""Tables hold evaluation.json's numbers, and only what may be compared."""

from html.parser import HTMLParser

import pytest

from amlr_jax.evaluate import tables as printed
from amlr_jax.report import gather, tables
from tests.report import runs


class Tables(HTMLParser):
    """Tables as (line under it, rows of (name, class, values, bold columns))."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found, self._inside, self._under = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self._inside.append(tag)
        self._under = given.get("class") == "protocol"
        if tag == "table":
            self.found.append(["", []])
        elif tag == "tr":
            self.found[-1][1].append(["", given.get("class"), [], []])
        elif tag == "td":
            self.found[-1][1][-1][2].append(None)
        elif tag == "data":
            self.found[-1][1][-1][2][-1] = float(given["value"])
        elif tag == "strong":
            last = self.found[-1][1][-1]
            last[3].append(len(last[2]) - 1)

    def handle_endtag(self, tag):
        while self._inside.pop() != tag:
            pass

    def handle_data(self, text):
        if self._under:
            self.found[-1][0] += text
        elif "th" in self._inside and self.found:
            self.found[-1][1][-1][0] += text


def run_of(name: str, evaluation: dict | None, **facts) -> gather.RunFiles:
    return gather.RunFiles(name, facts=facts, evaluation=evaluation)


def read(*made: gather.RunFiles) -> list:
    return Tables(tables.metrics(made)).found


def test_numbers_are_those_of_the_file():
    result = runs.evaluation()
    values = [0.123456, 1.5, 4.25, 0.2, 0.05, 0.875, 0.95, 0.99]
    result["metrics"] = dict(zip(runs.NAMES, values, strict=False))
    ((line, (head, network, constant)),) = read(run_of("one", result))
    assert network[2] == values and network[0] == "one after step 30"
    assert constant[:2] == ["constant 12.50 m", "constant"] and constant[2] == [0.5] * 8
    assert line == "kitti_eigen on kitti folder: KB crop, 10 frames"
    del result["described"]  # of an older version
    ((line, _),) = read(run_of("one", result))
    for part in ("crop garg", "max_depth 80.0", "test_mode none", "10 frames"):
        assert part in line
    assert head[0].startswith("MethodAbs Rel ↓Sq Rel ↓RMSE ↓RMSE log ↓log10 ↓δ1 ↑")


def test_columns_are_the_other_tables_without_its_last():
    ours = [(k, "↓" if less else "↑") for k, _, less in tables.COLUMNS]
    theirs = [(key, heading[-1]) for key, heading in printed.COLUMNS.items()]
    assert ours == theirs[:-1]


def test_best_is_bold_and_so_is_what_prints_alike():
    ((_, rows),) = read(
        run_of("low", runs.evaluation(0.2001)),
        run_of("same", runs.evaluation(0.2004)),
        run_of("high", runs.evaluation(0.3)),
    )
    bold = {name.split()[0]: columns for name, _, _, columns in rows[1:]}
    assert bold == {
        "low": [0, 1, 2, 3, 4], "same": [0, 1, 2, 3, 4], "high": [],
        "constant": [5, 6, 7],
    }  # fmt: skip


@pytest.mark.parametrize(
    "change", [{"crop": "eigen"}, {"test_mode": "flip"}, {"max_depth": 50.0}]
)
def test_protocols_have_tables_of_their_own(change):
    made = run_of("a", runs.evaluation()), run_of("b", runs.evaluation(**change))
    found = read(*made)
    assert [[r[0].split()[0] for r in rows[1:]] for _, rows in found] == [
        ["a", "constant"], ["b", "constant"],
    ]  # fmt: skip
    assert "one table each" in tables.metrics(made)


def test_another_number_of_frames_is_no_comparison():
    other = runs.evaluation() | {"frames": 11}
    assert len(read(run_of("a", runs.evaluation()), run_of("b", other))) == 2


def test_each_constant_has_its_row():
    ((_, rows),) = read(
        run_of("a", runs.evaluation()), run_of("b", runs.evaluation(median_depth=9.0))
    )
    assert [r[0] for r in rows[3:]] == ["constant 12.50 m", "constant 9.00 m"]


def test_published_rows_only_beside_their_protocol():
    rows = [["AMLR", "Table 1", "flip", {"abs_rel": 0.05}]]
    published = {"protocol": runs.PROTOCOL | {"test_mode": "flip"}, "rows": rows}
    ((_, found),) = read(run_of("a", runs.evaluation(), published=published))
    name, css, values, bold = found[-1]
    assert name == "AMLR Table 1, test mode flip" and css == "published"
    assert values == [0.05] + [None] * 7 and bold == []
    other = run_of("a", runs.evaluation(crop="none"), published=published)
    ((_, found),) = read(other)
    assert len(found) == 3


def test_nan_and_missing_are_a_dash():
    result = runs.evaluation()
    result["metrics"] = {"abs_rel": float("nan"), "rmse": "x"}
    ((_, rows),) = read(run_of("a", result))
    assert rows[1][2] == [None] * 8
    assert rows[2][3] == list(range(8))


def test_without_any_evaluation():
    assert "No run has been evaluated" in tables.metrics([run_of("a", None)])


def test_the_other_sets_of_a_mix_and_the_average():
    whole = runs.evaluation() | {"sets": {"rooms": runs.evaluation(crop="nyu"), "x": 3}}
    ((_, kitti), (_, rooms)) = read(run_of("a", whole))
    assert [row[0].split(" after")[0] for row in (kitti[1], rooms[1])] == [
        "a", "a on rooms"
    ]  # fmt: skip
    run = run_of("a", whole)._replace(
        config={"optimizer": {"ema": 0.999}},
        facts={"sets": {k: {"name": k, "split": "s", "test": 7} for k in "ab"}},
    )
    page = tables.facts([run])
    for text in ("a s, b s", "7, 7", "moving average, decay 0.999"):
        assert f"<td>{text}</td>" in page
