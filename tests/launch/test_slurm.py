"""launch/slurm.sh, with an srun that starts its tasks here."""

import os
import signal
import subprocess
import time

import pytest

from tests.launch.scripts import LAUNCH, MAIN, REPOSITORY, environment, executable

# Two tasks on one node, each with its log, and the highest of their statuses.
SRUN = """
echo "$@" >> "$RECORD"
echo $$ > "$RECORD.pid"
for word; do
  case $word in --output=*) log=${word#*=} ;; esac
done
while [[ $1 == --* ]]; do shift; done
export SLURM_STEP_NODELIST=localhost SLURM_NTASKS=2 SLURM_STEP_TASKS_PER_NODE=2
for task in 0 1; do
  SLURM_PROCID=$task SLURM_LOCALID=$task "$@" > "${log/\\%t/$task}" 2>&1 &
  pids+=($!)
done
trap 'kill -TERM "${pids[@]}"' USR1
worst=0
for pid in "${pids[@]}"; do
  while :; do
    status=0
    wait "$pid" || status=$?
    kill -0 "$pid" 2>/dev/null || break
  done
  [ "$status" -gt "$worst" ] && worst=$status
done
exit "$worst"
"""


@pytest.fixture
def job(tmp_path):
    """Starts the batch script as SLURM would: a copy in another folder."""
    commands = tmp_path / "bin"
    commands.mkdir()
    executable(commands / "srun", SRUN)
    executable(commands / "scontrol", 'echo "scontrol $*" >> "$RECORD"')
    copy = executable(tmp_path / "slurm_script", (LAUNCH / "slurm.sh").read_text())

    def start(program: str) -> subprocess.Popen:
        python = executable(tmp_path / "python", program)
        kept = environment()
        return subprocess.Popen(
            [copy, *MAIN, f"--workdir={tmp_path / 'run'}"],
            env=kept
            | {
                "PATH": f"{commands}:{kept['PATH']}",
                "PYTHON": str(python),
                "RECORD": str(tmp_path / "record"),
                "SLURM_JOB_ID": "17",
                "SLURM_SUBMIT_DIR": str(REPOSITORY),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def record(tmp_path) -> str:
    return (tmp_path / "record").read_text()


def log(tmp_path, task: int) -> str:
    path = tmp_path / "run" / "logs" / f"process_{task}.log"
    return path.read_text() if path.exists() else ""


def test_tasks_find_what_jax_reads(job, tmp_path):
    process = job('echo "$SLURM_PROCID of $SLURM_NTASKS: $*"')
    process.communicate(timeout=30)
    assert process.returncode == 0
    for task in (0, 1):
        assert log(tmp_path, task).startswith(
            f"{task} of 2: -m amlr_jax.main --config="
        )
    assert "scontrol" not in record(tmp_path)


def test_queued_again_when_saved(job, tmp_path):
    said, _ = job("exit 75").communicate(timeout=30)
    assert "queueing job 17 again" in said
    assert "scontrol requeue 17" in record(tmp_path)


def test_a_failure_is_not_queued_again(job, tmp_path):
    process = job('[ "$SLURM_PROCID" = 1 ] && exit 3')
    _, said = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "error: status 3; see" in said
    assert "scontrol" not in record(tmp_path)


def test_a_cancelled_job_is_not_queued_again(job, tmp_path):
    """scancel sends SIGTERM to this shell as well as to the tasks."""
    waits = "trap 'exit 75' TERM; echo there; while :; do sleep 0.05; done"
    process = job(waits)
    deadline = time.monotonic() + 20
    while not all(log(tmp_path, task) for task in (0, 1)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    os.kill(int((tmp_path / "record.pid").read_text()), signal.SIGUSR1)
    process.communicate(timeout=30)
    assert process.returncode == 75
    assert "scontrol" not in record(tmp_path)


def test_submitted_from_elsewhere(job, tmp_path):
    done = subprocess.run(
        [LAUNCH / "slurm.sh", *MAIN, "--workdir=/runs/a"],
        env=environment(SLURM_JOB_ID="17", SLURM_SUBMIT_DIR=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "is not the repository; call sbatch from there" in done.stderr
