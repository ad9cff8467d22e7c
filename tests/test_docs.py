"""The documentation says what is there: its examples run, and its names exist."""

import doctest
import importlib
import re
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from amlr_jax.config import base
from amlr_jax.evaluate import protocols, tiling

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")]
PAGES += sorted((REPOSITORY / "docs").rglob("*.md"))
TEXTS = {str(path.relative_to(REPOSITORY)): path.read_text() for path in PAGES}
OPTION = r"(?:DEFINE_\w+|DEFINE_config_file|add_argument)\(\s*\"(?:--)?(\w+)\""


def found(pattern: str) -> list[tuple]:
    """(page, match or groups) of a pattern in all pages but the changelog.

    The changelog names what was removed.
    """
    texts = {page: text for page, text in TEXTS.items() if page != "CHANGELOG.md"}
    return [
        (page, m) for page, text in texts.items() for m in re.findall(pattern, text)
    ]


def commands() -> list[tuple[str, str]]:
    """(page, command) of the shell lines, continued lines joined."""
    fences = [
        (page, fence)
        for page, text in TEXTS.items()
        for fence in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    ]
    return [
        (page, line.split("  #")[0].strip())
        for page, fence in fences
        for line in fence.replace("\\\n", " ").splitlines()
    ]


@pytest.mark.parametrize("page", [page for page in TEXTS if ">>> " in TEXTS[page]])
def test_examples_run(page):
    names = {}
    for block in re.findall(r"```python\n(>>> .*?)```", TEXTS[page], re.DOTALL):
        test = doctest.DocTestParser().get_doctest(block, names, page, page, 0)
        result = doctest.DocTestRunner().run(test, clear_globs=False)
        assert result.failed == 0
        names.update(test.globs)


def test_the_readme_is_short():
    assert len(TEXTS["README.md"].encode()) <= 8192


def test_links_lead_somewhere():
    links = found(r"\]\(([^)#\s]+)[^)]*\)")
    links = [(page, link) for page, link in links if "://" not in link]
    missing = [
        (page, link)
        for page, link in links
        if not (REPOSITORY / page).parent.joinpath(link).exists()
    ]
    assert links and not missing


def test_paths_exist():
    pattern = r"\b((?:amlr_jax|configs|docs|launch|tests)/[\w./]+\.\w+)"
    paths = {path for _, path in found(pattern)}
    assert paths and not [p for p in sorted(paths) if not (REPOSITORY / p).exists()]


def test_configs_have_the_variants():
    named = set(found(r"\bconfigs/([\w/]+)\.py:([a-z]\w*)"))
    missing = [
        (page, name, variant)
        for page, (name, variant) in sorted(named)
        if variant not in _config_module(name).VARIANTS
    ]
    assert named and not missing


def _config_module(name: str):
    return importlib.import_module(f"configs.{name.replace('/', '.')}")


def test_config_keys_exist():
    keys = found(r"--config\.([a-z][\w.]*)")
    sections = "|".join(name for name, v in base().items() if isinstance(v, ConfigDict))
    named = found(rf"`((?:{sections})\.(?!json|safetensors)[a-z_.]+[a-z])`")
    # `data.check` and `rebalance.log_amlr` are modules and functions, no keys.
    keys += [one for one in named if not _importable(f"amlr_jax.{one[1]}")]
    unknown = [(page, key) for page, key in keys if not _is_key(key)]
    assert keys and not unknown


def _is_key(key: str) -> bool:
    """Whether a config has the key; sections that are empty by default take any."""
    value = base()
    for part in key.split("."):
        if not isinstance(value, ConfigDict):
            return False
        if part not in value:
            return not len(value)
        value = value[part]
    return True


def test_modules_exist():
    modules = {name for _, name in found(r"\b(amlr_jax(?:\.[a-z_]\w*)+)")}
    missing = [name for name in sorted(modules) if not _importable(name)]
    assert modules and not missing


def _importable(name: str) -> bool:
    """Whether the dotted name is a module, or an attribute of one."""
    *parents, last = name.split(".")
    place = REPOSITORY.joinpath(*parents)
    if (place / last).is_dir() or (place / f"{last}.py").is_file():
        return True
    home = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return home.is_file() and bool(re.search(rf"\b{last}\b", home.read_text()))


def test_commands_have_the_options():
    checked = 0
    for page, line in commands():
        if not (ran := re.search(r"python -m (amlr_jax\.[\w.]+)", line)):
            continue
        known = _options(ran[1])
        for option in re.findall(r"\s--(\w+)", line):
            assert option in known, f"{page}: {ran[1]} has no option --{option}"
            checked += 1
    assert checked


def _options(module: str) -> set[str]:
    path = REPOSITORY / module.replace(".", "/")
    file = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    text = file.read_text()
    shared = re.findall(r"command\.(\w+)_flag\(\)", text)
    return {*re.findall(OPTION, text), *shared, "config"}


def test_scripts_exist():
    scripts = {m for _, line in commands() for m in re.findall(r"launch/\w+\.sh", line)}
    assert scripts and not [s for s in scripts if not (REPOSITORY / s).is_file()]


def test_protocols_and_test_modes_are_all_there():
    named = re.findall(r"^\| `(\w+)`", TEXTS["docs/protocols.md"], re.MULTILINE)
    assert named == [
        *(name for name in protocols.PRESETS if name != "custom"),
        *tiling.MODES,
    ]


def test_site_has_every_page():
    site = (REPOSITORY / "mkdocs.yml").read_text()
    pages = [page.removeprefix("docs/") for page in TEXTS if page.startswith("docs/")]
    assert not [page for page in pages if page not in site]
