"""A user's mistake is one line on stderr and exit status 1; every file parses."""

import subprocess
import sys

import pytest

from amlr_jax import pipeline
from amlr_jax.runtime import command as commands
from amlr_jax.runtime.errors import InputError
from tests import tiny_kitti
from tests.conftest import REPOSITORY


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "amlr_jax.main", *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


def assert_one_line(done: subprocess.CompletedProcess, *words: str) -> None:
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: "), done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in line


def assert_refused(config, folder, *words: str) -> None:
    """As `assert_one_line` of the command, in this process."""
    with pytest.raises(InputError) as refused:
        pipeline.train(config, folder)
    (line,) = str(refused.value).strip().splitlines()
    for word in words:
        assert word in line


DEMO = "--config=configs/demo.py"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--config=configs/nope.py"], ["no config file 'configs/nope.py'"]),
        (["--config=configs/kitti.py:huge"], ["has variants", "huge"]),
        ([DEMO, "--config.data.rot=x"], ["data.rot", "did you mean data.root?"]),
        ([DEMO, "--config.steps=1e3"], ["steps must be a whole number", "got '1e3'"]),
        ([DEMO, "--config.optimizer.peak=x"], ["peak must be a number, got 'x'"]),
        ([DEMO, "--config.model.remat=x"], ["remat must be True or False, got 'x'"]),
        (
            [DEMO, "--config.steps=0"],
            ["steps must be a whole number", "got 0"],
        ),
        ([DEMO, "--wrokdir=x"], ["unknown option '--wrokdir'; did you mean workdir?"]),
        (["--config", "configs/demo.py", "--config.stps", "4"], ["mean steps?"]),
        (["--config", "configs/nope.py"], ["no config file 'configs/nope.py'"]),
        ([DEMO, "--workdir="], ["--workdir is empty"]),
        ([DEMO, "--workdir", " "], ["--workdir is empty"]),
        ([DEMO, "--config=configs/kitti.py"], ["--config is given twice"]),
        ([DEMO, "--config.data.root="], ["data.root must be a text that is not"]),
        ([DEMO, "--config.optimizer.peak=nan"], ["optimizer.peak", "got nan"]),
        ([DEMO, "extra"], ["unexpected argument 'extra'"]),
    ],
)
def test_mistakes_on_the_command_line(arguments, words, tmp_path):
    folder = tmp_path / "run"
    assert_one_line(run(f"--workdir={folder}", *arguments), *words)
    assert not folder.exists()


@pytest.mark.parametrize("platform", ["cuda", "tpu", "abacus"])
def test_a_platform_that_jax_cannot_use(platform, monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_PLATFORMS", platform)
    done = run(DEMO, f"--workdir={tmp_path / 'run'}")
    words = [f"no device for JAX_PLATFORMS={platform}", "set JAX_PLATFORMS=cpu"]
    assert_one_line(done, *words)
    assert not (tmp_path / "run").exists()


FALLBACK = """
import jax._src.hardware_utils as hardware
hardware.has_visible_nvidia_gpu = lambda: True
import sys
from amlr_jax.runtime import command
def main(argv):
    import jax
    jax.devices()
    import logging
    logging.getLogger("jax._src.compiler").info("not shown")
command.run(main)
"""


def test_the_cpu_beside_a_gpu_is_said(monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    done = subprocess.run(
        [sys.executable, "-c", FALLBACK],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = [one for one in done.stderr.splitlines() if "warning: " in one]
    assert "Falling back to cpu" in line and "pip install 'jax[cuda13]'" in line
    assert "not shown" not in done.stderr


def test_workdir_is_required():
    assert_one_line(run(DEMO), "--workdir missing")


@pytest.mark.parametrize(
    "fault, words",
    [
        ("no data", ["no KITTI data at", "expected", "raw_data/<date>/<drive>"]),
        ("no ground truth", ["missing ground truth of 1"]),
        ("truncated", ["is damaged", "0000000002.png"]),
        ("other size", ["differ in size"]),
        ("no calibration", ["calib_cam_to_cam.txt"]),
    ],
)
def test_bad_data(tiny_config, kitti_root, tmp_path, fault, words):
    plant(kitti_root, fault)
    folder = tmp_path / "runs" / "new"
    assert_refused(tiny_config, folder, *words)
    assert not folder.parent.exists()
    assert not [p for p in tmp_path.rglob("*.array_record*") if p.is_file()]


def plant(root, fault: str) -> None:
    image = tiny_kitti.image_path(root, "0001", 2)
    if fault == "no data":
        root.rename(root.with_name("elsewhere"))
        root.mkdir()
    if fault == "no ground truth":
        tiny_kitti.write(root, frames=14)
        tiny_kitti.depth_path(root, "0002", 6).unlink()
    if fault == "truncated":
        image.write_bytes(image.read_bytes()[:-20])
    if fault == "other size":
        tiny_kitti.write_frame(root, "0003", 2, size=(32, 96))
        tiny_kitti.image_path(root, "0003", 2).rename(image)
        tiny_kitti.depth_path(root, "0003", 2).unlink()
    if fault == "no calibration":
        (root / "raw_data" / tiny_kitti.DATE / "calib_cam_to_cam.txt").unlink()


def test_unwritable_workdir(kitti_root, tmp_path):
    (tmp_path / "file").write_text("")
    flags = tiny_kitti.flags(kitti_root, cache=tmp_path / "cache")
    done = run(*flags, f"--workdir={tmp_path / 'file' / 'run'}")
    assert_one_line(done, "cannot be written", "--workdir=DIR")


def test_workdir_of_another_run(tiny_config, tmp_path):
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    assert_refused(tiny_config, folder, "another run's")


def test_keys_of_the_losses_can_be_overridden():
    commands.check_config_keys(
        ["", "--config=configs/demo.py", "--config.losses.silog.variance_focus=0.85"]
    )
    with pytest.raises(InputError, match="losses.silog.focus"):
        commands.check_config_keys(
            ["", "--config=configs/demo.py", "--config.losses.silog.focus=1"]
        )


# ---------------------------------------------------------------- where configs are


@pytest.mark.parametrize("folder", ["a:b", ".", "x.py:tiny", "with space"])
def test_a_config_whose_path_has_a_colon(tmp_path, folder, monkeypatch):
    (tmp_path / folder).mkdir(exist_ok=True)
    file = tmp_path / folder / "mine.py"
    file.write_text("def get_config(variant='none'):\n    return variant\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for path in (file, f"~/{folder}/mine.py", f"{folder}/mine.py"):
        assert commands.load_config(str(path)) == "none"
        assert commands.load_config(f"{path}:tiny") == "tiny"
        assert commands.load_config(f"{path}:a:b") == "a:b"


def test_configs_of_a_clone_are_found_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert commands.load_config("configs/demo.py:silog").rebalance.rule == "fixed"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/demo.py").write_text("def get_config():\n    return 'mine'\n")
    assert commands.load_config("configs/demo.py") == "mine"


def test_a_wheel_says_where_the_configs_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "SOURCE", tmp_path / "site-packages")
    with pytest.raises(InputError, match="'configs/demo.py'.*not in the wheel"):
        commands.load_config("configs/demo.py:silog")


def test_the_flag_reads_such_a_config(tmp_path):
    (tmp_path / "a:b").mkdir()
    text = (REPOSITORY / "configs/demo.py").read_text()
    (tmp_path / "a:b/mine.py").write_text(text)
    config = f"--config={tmp_path}/a:b/mine.py:silog"
    done = run(config, "--config.steps=0", f"--workdir={tmp_path / 'run'}")
    assert_one_line(done, "steps must be a whole number of at least 1; got 0")


def test_help_is_no_mistake(monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["__main__"], "__doc__", "What it does.")
    for option in ("--help", "-h"):
        with pytest.raises(SystemExit) as ended:
            commands.parse(["command", option, "--required_flags_are_not_asked_for"])
        assert ended.value.code == 0
        assert capsys.readouterr().out.startswith("What it does.")
