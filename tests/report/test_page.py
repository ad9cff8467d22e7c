"""One file, whole and alone: nothing is fetched, nothing of a config is markup."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import resources

import numpy as np
import pytest

from amlr_jax.report import page
from amlr_jax.runtime.errors import InputError
from tests.conftest import REPOSITORY
from tests.report import runs

EVIL = '"><script>alert(1)</script><img src=http://x.y/z onerror=alert(2)>{{data}}'


class Page(HTMLParser):
    """All tags with their attributes, and the text of each script."""

    VOID = {"meta", "img", "input", "br", "link"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.scripts, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, text):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += text


def rendered(*folders) -> tuple[str, Page]:
    output = folders[0].parent / "page.html"
    page.write(list(folders), output)
    text = output.read_text(encoding="utf-8")
    return text, Page(text)


def test_structure(tmp_path):
    text, found = rendered(runs.write(tmp_path / "one"))
    assert found.open == []
    tags = [tag for tag, _ in found.tags]
    ids = [given["id"] for _, given in found.tags if "id" in given]
    assert len(ids) == len(set(ids))
    sections = [given["id"] for tag, given in found.tags if tag == "section"]
    assert sections == ["run", "metrics", "curves", "frames", "cloud"]
    links = [given["href"] for tag, given in found.tags if tag == "a"]
    assert links == [f"#{name}" for name in sections]
    assert tags.count("h1") == 1 and found.tags[0] == ("html", {"lang": "en"})
    assert all(given.get("alt") for tag, given in found.tags if tag == "img")
    assert len(text) < 10_000_000


def test_nothing_is_fetched(tmp_path):
    text, found = rendered(runs.write(tmp_path / "a"), runs.write(tmp_path / "b"))
    assert "http:" not in text and "https:" not in text
    assert not {"link", "iframe", "object", "embed", "base"} & {
        t for t, _ in found.tags
    }
    for tag, given in found.tags:
        for name in {
            "src",
            "href",
            "srcset",
            "action",
            "data",
            "poster",
        } & given.keys():
            assert given[name].startswith(("data:image/", "#")), (tag, name)
        assert not [name for name in given if name.startswith("on")]
    assert re.findall(r"url\(|@import|@font-face|fetch\(|XMLHttp|import\(", text) == []
    policies = [g["content"] for t, g in found.tags if "http-equiv" in g]
    assert policies[0].startswith("default-src 'none'; img-src data:;")


def test_the_policy_admits_our_script_alone(tmp_path):
    text, found = rendered(runs.write(tmp_path / "one"))
    digest = base64.b64encode(hashlib.sha256(found.scripts[1].encode()).digest())
    assert f"script-src 'sha256-{digest.decode()}'" in text
    assert [g for t, g in found.tags if t == "script"] == [
        {"type": "application/json", "id": "data"}, {},
    ]  # fmt: skip


def test_strings_are_text(tmp_path):
    """Config, keys of frames, names of losses, figures and versions."""
    config = {"data.root": EVIL, f"data.{EVIL.replace('.', '')}": EVIL}
    folder = runs.write(tmp_path / "<b>run", **config)
    evil_row = runs.row(1, losses={EVIL: 1.0}, weights={EVIL: 1.0})
    (folder / "metrics.jsonl").write_text(json.dumps(evil_row) + "\n" + EVIL)
    result = runs.evaluation(crop=EVIL, test_mode=EVIL) | {"step": EVIL}
    (folder / "evaluation.json").write_text(json.dumps(result))
    published = {"protocol": result["protocol"], "rows": [[EVIL, EVIL, EVIL, {}]]}
    facts = {"devices": EVIL, "versions": {EVIL: EVIL}, "published": published}
    facts["data"] = {"name": EVIL, "split": EVIL, "train": EVIL}
    (folder / "run.json").write_text(json.dumps(facts))
    runs.save(folder, [runs.frame(EVIL)])
    text, found = rendered(folder)
    assert found.open == []
    assert "<script>alert" not in text and "<b>" not in text.replace(
        "<b>0", ""
    ).replace("<b>1", "")
    assert [t for t, _ in found.tags].count("script") == 2
    assert json.loads(found.scripts[0])[0]["key"] == EVIL


def test_a_run_that_has_only_begun(tmp_path):
    folder = runs.write(tmp_path / "one", frames=0)
    (folder / "evaluation.json").unlink()
    (folder / "metrics.jsonl").write_text("")
    text, found = rendered(folder)
    assert found.open == []
    for line in (
        "No run has been evaluated yet",
        "no curves",
        "No run has written a line",
        "No run has left frames",
    ):
        assert line in text
    assert json.loads(found.scripts[0]) == []


def test_config_shows_what_differs_first(tmp_path):
    folders = [
        runs.write(tmp_path / "a", frames=0, **{"rebalance.rule": "fixed"}),
        runs.write(tmp_path / "b", frames=0),
    ]
    text, _ = rendered(*folders)
    first, every = text.split("Config: all")
    assert "differs from the defaults (1 keys)" in first
    line = '<tr class="differs"><th scope="row">rebalance.rule</th>'
    cells = "<td>&quot;fixed&quot;</td><td>&quot;log_amlr&quot;</td>"
    assert line + cells in first
    assert '<th scope="row">optimizer.peak</th>' in every
    assert '<th scope="row">optimizer.peak</th>' not in first


def palettes() -> list[dict[str, str]]:
    """The colours by day and by night."""
    style = resources.files(page.__package__).joinpath("report.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)
    colours = (re.findall(r"--(\w+): (#\w+)", block) for block in blocks)
    return [
        {n: "#" + "".join(2 * c for c in v[1:]) if len(v) == 4 else v for n, v in pairs}
        for pairs in colours
    ]


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (
        p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", palettes(), ids=["light", "dark"])
def test_contrast_is_that_of_wcag(colours):
    assert len(colours) == 13
    for back in ("page", "card", "mark"):
        assert contrast(colours["ink"], colours[back]) > 7
    for text in ("soft", "accent"):
        assert contrast(colours[text], colours["card"]) > 4.5
        assert contrast(colours[text], colours["page"]) > 4.5
    for number in range(6):  # lines are graphics
        assert contrast(colours[f"c{number}"], colours["card"]) > 3


# Machado, Oliveira, Fernandes 2009: linear RGB as it is seen without one of the cones.
SEEN = {
    "protanopia": (0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216,
                   -0.003882, -0.048116, 1.051998),
    "deuteranopia": (0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413,
                     -0.011820, 0.042940, 0.968881),
    "tritanopia": (1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602,
                   0.004733, 0.691367, 0.303900),
    "all cones": (1, 0, 0, 0, 1, 0, 0, 0, 1),
}  # fmt: skip


@pytest.mark.parametrize("sight", SEEN)
@pytest.mark.parametrize("colours", palettes(), ids=["light", "dark"])
def test_lines_are_told_apart_by_everyone(colours, sight):
    color = pytest.importorskip("skimage.color")
    codes = [bytes.fromhex(colours[f"c{n}"][1:]) for n in range(6)]
    rgb = np.array([list(code) for code in codes]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.reshape(SEEN[sight], (3, 3)).T, 0, 1)
    seen = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = color.rgb2lab(seen)
    for i in range(6):
        for j in range(i):
            assert color.deltaE_ciede2000(lab[i], lab[j]) > 15


def test_an_output_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--output '.*' cannot be written"):
        page.write([runs.write(tmp_path / "one")], tmp_path / "file" / "a.html")


def command(*arguments) -> subprocess.CompletedProcess:
    """With jax blocked: a page is made from files alone."""
    code = (
        "import sys, runpy; sys.modules['jax'] = None; sys.argv[0] = 'report'; "
        "runpy.run_module('amlr_jax.report', run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_command(tmp_path):
    folders = [runs.write(tmp_path / name) for name in "ab"]
    done = command(*folders, f"--output={tmp_path / 'new' / 'both.html'}")
    assert done.returncode == 0, done.stderr
    assert "both.html: " in done.stdout and "MB" in done.stdout
    assert (tmp_path / "new" / "both.html").stat().st_size > 10_000
    assert command(folders[0]).returncode == 0
    assert (folders[0] / "report.html").is_file()


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "name at least one workdir"),
        (["{}/none"], "is not a folder"),
        (["{}"], "holds no run"),
        (["{}", "--outptu=x"], "outptu"),
        (["{}", "--output={}"], "must be a file"),
    ],
)
def test_mistakes_are_one_line(tmp_path, arguments, words):
    done = command(*(a.format(tmp_path) for a in arguments))
    assert done.returncode == 1 and words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("name", ["run.json", "config.json"])
@pytest.mark.parametrize(
    "text", ['{"data": 3, "versions": [], "losses": 1, "model": "x", "published": 2}',
             '{"data": {"train": 5}, "published": {"rows": []}, "parameters": "many"}'],
)  # fmt: skip
def test_json_of_another_form_is_no_traceback(tmp_path, name, text):
    folder = runs.write(tmp_path / "one")
    (folder / name).write_text(text)
    assert rendered(folder)[1].open == []
