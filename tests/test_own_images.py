"""The README's way from two folders to a trained network, on generated images."""

import json
import re
import shlex

import pytest

from configs import custom
from tests import tiny_kitti
from tests.conftest import REPOSITORY
from tests.data import test_custom

NAMES = [f"kitchen/{n:04d}" for n in range(10)]
# For seconds in place of minutes, in the shapes of `tiny_kitti`.
QUICK = ("batch_size", "steps", "checkpoint.every_steps", "data.crop", "eval.pictures")


def readme_command() -> dict[str, str]:
    """Option -> value of the README's command for a folder of one's own."""
    text = (REPOSITORY / "README.md").read_text().replace("\\\n", " ")
    section = text.split("\n## Your own images\n")[1].split("\n## ")[0]
    (line,) = re.findall(r"python -m amlr_jax\.main (.*)", section)
    return dict(word.removeprefix("--").split("=", 1) for word in shlex.split(line))


@pytest.mark.slow
def test_the_readme_command_trains(tmp_path):
    from amlr_jax import pipeline

    options = readme_command()
    assert options.pop("config") == "configs/custom.py:tiny"
    assert options.keys() == {"workdir", "config.data.root"}
    test_custom.write(tmp_path / "my_data", NAMES, size=tiny_kitti.SIZE)
    config = custom.get_config("tiny")
    changes = {name: tiny_kitti.OVERRIDES[name] for name in QUICK}
    changes |= {"data.root": str(tmp_path / options["config.data.root"])}
    changes |= {"data.cache": str(tmp_path / "cache")}
    config.update_from_flattened_dict(changes)
    pipeline.train(config, tmp_path / "run")
    result = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert (result["protocol"]["dataset"], result["frames"]) == ("custom", 2)
    assert (tmp_path / "run" / "panel.png").is_file()
