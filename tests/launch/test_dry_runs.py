"""Every script prints what it would run, and rejects unknown options."""

import os
import shlex
import subprocess

import pytest

from amlr_jax.runtime import cluster, errors
from tests.conftest import REPOSITORY
from tests.launch.scripts import LAUNCH, MAIN, executable, run

# What a script needs besides the options of amlr_jax.main, and a workdir it takes.
SCRIPTS = {
    "local.sh": ([], "/runs/a b"),
    "multiprocess.sh": (["--processes=2", "--cpu", "--port=5000"], "/runs/a b"),
    "slurm.sh": ([], "/runs/a b"),
}


def dry_run(script: str, *more: str, **changes: str) -> list[str]:
    own, folder = SCRIPTS[script]
    done = run(
        script, "--dry_run", *own, *MAIN, f"--workdir={folder}", *more, **changes
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_local_is_one_process():
    (line,) = dry_run("local.sh", PYTHON="python3")
    words = shlex.split(line)
    assert words[-6:] == [
        "python3",
        "-m",
        "amlr_jax.main",
        *MAIN,
        "--workdir=/runs/a b",
    ]
    unset = {b for a, b in zip(words, words[1:], strict=False) if a == "-u"}
    assert {"JAX_NUM_PROCESSES", "SLURM_PROCID"} <= unset


def test_multiprocess_is_one_line_a_process():
    lines = dry_run("multiprocess.sh", PYTHON="python3")
    assert len(lines) == 2
    for process, line in enumerate(lines):
        words = shlex.split(line)
        assert words[:5] == [
            "env",
            "JAX_COORDINATOR_ADDRESS=localhost:5000",
            "JAX_NUM_PROCESSES=2",
            f"JAX_PROCESS_ID={process}",
            "JAX_PLATFORMS=cpu",
        ]
        assert words[5:] == [
            "python3", "-m", "amlr_jax.main", *MAIN, "--workdir=/runs/a b",
        ]  # fmt: skip


def test_multiprocess_takes_a_gpu_a_process():
    given = ["--dry_run", "--port=5000", *MAIN, "--workdir=/runs/a"]
    done = run("multiprocess.sh", *given, CUDA_VISIBLE_DEVICES="2,5,7")
    lines = done.stdout.splitlines()
    assert [f"JAX_LOCAL_DEVICE_IDS={k} " in line for k, line in enumerate(lines)] == [
        True, True, True,
    ]  # fmt: skip
    assert all("JAX_NUM_PROCESSES=3" in line for line in lines)


def test_slurm_has_a_batch_and_a_step():
    batch, step = dry_run("slurm.sh", PYTHON="python3")
    asked, command = shlex.split(batch), shlex.split(step)
    assert asked[0] == "sbatch"
    assert {"--requeue", "--signal=TERM@120", "--open-mode=append"} <= set(asked)
    assert asked[-4:] == ["launch/slurm.sh", *MAIN, "--workdir=/runs/a b"]
    assert command[0] == "srun"
    assert "--kill-on-bad-exit=1" in command
    assert "--output=/runs/a b/logs/process_%t.log" in command


def test_the_status_that_asks_for_another_start():
    assert errors.REQUEUE == 75
    for script in ("slurm.sh", "multiprocess.sh"):
        assert "75" in (LAUNCH / script).read_text()


def test_the_documented_manifest():
    """JobSet's pod names, our variables, and the status that is no failure."""
    yaml = pytest.importorskip("yaml")
    text = (REPOSITORY / "docs" / "kubernetes.md").read_text()
    manifest = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    name, job = manifest["metadata"]["name"], manifest["spec"]["replicatedJobs"][0]
    spec = job["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    variables = {one["name"]: one.get("value") for one in container["env"]}
    subdomain = manifest["spec"]["network"]["subdomain"]
    address = f"{name}-{job['name']}-0-0.{subdomain}:55527"
    assert variables[cluster.ADDRESS] == address
    assert spec["parallelism"] == spec["completions"] == int(variables[cluster.COUNT])
    assert cluster.ID in variables
    by_status, _ = spec["podFailurePolicy"]["rules"]
    assert by_status["onExitCodes"]["values"] == [errors.REQUEUE]
    assert by_status["onExitCodes"]["containerName"] == container["name"]
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {one["name"] for one in spec["template"]["spec"]["volumes"]}


OWN = {
    "multiprocess.sh": [
        (["--processes=0"], "--processes must be a whole number from 1, got '0'"),
        (["--processes="], "--processes must be a whole number from 1, got ''"),
        (["--port=http"], "--port must be a whole number"),
        (["--processes=2", "--grace=-1"], "--grace must be a whole number"),
    ],
    "slurm.sh": [],
    "local.sh": [],
}
COMMON = [
    (["--procesess=2"], "unknown option '--procesess=2'"),
    (["extra"], "unknown option 'extra'"),
    (["--workdir"], "--workdir needs its value in one word"),
]


@pytest.mark.parametrize(
    "script, arguments, words",
    [(s, *case) for s in SCRIPTS for case in (*COMMON, *OWN[s])],
)
def test_bad_options(script, arguments, words):
    own, folder = SCRIPTS[script]
    given = ["--dry_run", *own, *MAIN, f"--workdir={folder}", *arguments]
    assert_refused(run(script, *given), words)


@pytest.mark.parametrize("script", SCRIPTS)
def test_config_and_workdir_are_needed(script):
    own, folder = SCRIPTS[script]
    assert_refused(run(script, *own, *MAIN[:1]), "--workdir=DIR is needed")
    assert_refused(run(script, *own, f"--workdir={folder}"), "--config=FILE")


def assert_refused(done: subprocess.CompletedProcess, words: str) -> None:
    assert done.returncode == 2, done.stdout
    assert not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_without_a_gpu_the_number_is_needed(tmp_path):
    given = [*MAIN, f"--workdir={tmp_path}"]
    assert_refused(run("multiprocess.sh", "--cpu", *given), "--cpu needs --processes=N")
    executable(tmp_path / "nvidia-smi", "exit 9")
    path = f"{tmp_path}:{os.environ['PATH']}"
    assert_refused(run("multiprocess.sh", *given, PATH=path), "no GPU found")


def test_gpus_are_counted(tmp_path):
    gpu = "GPU 0: NVIDIA H200 (UUID: GPU-0)"
    executable(tmp_path / "nvidia-smi", f"echo '{gpu}'; echo '{gpu}'")
    path = f"{tmp_path}:{os.environ['PATH']}"
    given = ["--dry_run", *MAIN, f"--workdir={tmp_path}"]
    done = run("multiprocess.sh", *given, PATH=path)
    assert len(done.stdout.splitlines()) == 2


def test_slurm_outside_of_a_job():
    given = [*MAIN, "--workdir=/runs/a"]
    assert_refused(run("slurm.sh", *given), "start it with sbatch")


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.sh")), ids=lambda p: p.name)
def test_bash_can_parse(path):
    done = subprocess.run(
        ["bash", "-n", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert path.stat().st_mode & 0o111 or path.stem in ("options", "environment")
