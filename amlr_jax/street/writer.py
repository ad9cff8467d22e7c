"""Writes the street as a KITTI folder, with several processes, all or nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

import cv2

from amlr_jax.runtime.cluster import cores
from amlr_jax.runtime.files import remove, replacing, write_json
from amlr_jax.runtime.locking import only_one
from amlr_jax.street import rig
from amlr_jax.street.frames import render

DATE = "2000_01_01"  # not a date of KITTI, so that no split list of KITTI matches
RAW, ANNOTATED = f"raw_data/{DATE}", "data_depth_annotated/train"
DRIVE = f"{DATE}_drive_{{:04d}}_sync"
MANIFEST = "street.json"
TICK = "frame"
VERSION = 2  # increase it when the same arguments give other files
Ticks = Generator[None, None, None]


def generate(
    root: str | Path,
    *,
    drives: int = 6,
    frames: int = 20,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> Path:
    """Writes the street under `root`, in the layout of KITTI's raw and depth data.

    The files appear at `root` all at once, when the last is done. A root that already
    holds the same street is left alone; one of an older version is replaced. Of several
    processes one renders and the others wait.

    Args:
      root: folder to write; it may exist if it is empty.
      drives: number of drives, each its own street.
      frames: frames of each drive, ten a second, about a metre apart.
      seed: of everything; same arguments, same bytes (on one machine's libraries).
      progress: called as progress(done, total) after every frame, if given.
      workers: processes, default one a core; 1 works inside this process.

    Returns:
      The root, a `pathlib.Path`.

    Raises:
      ValueError: an argument is out of range, or root holds something else.
    """
    root = Path(root)
    manifest = {"version": VERSION, "drives": drives, "frames": frames, "seed": seed}
    for name, lowest in (("drives", 1), ("frames", 1), ("seed", 0)):
        value = manifest[name]
        if int(value) != value or value < lowest:
            raise ValueError(
                f"{name} must be a whole number from {lowest}, got {value!r}"
            )
        manifest[name] = int(value)
    if _holds(root, manifest):
        return root
    lock = root.with_name(f".{root.name}.lock")
    with only_one(lock, doing="render the street", key="data.root"):
        if not _holds(root, manifest):
            _write(root, manifest, progress or (lambda done, total: None), workers)
    return root


def _holds(root: Path, manifest: dict) -> bool:
    """Whether the street is there; ValueError if something else is."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / MANIFEST).read_text())
        older = found["version"] < VERSION and manifest == found | {"version": VERSION}
    except (OSError, ValueError, TypeError, KeyError):
        found, older = "something else", False
    if found == manifest or older:
        return not older
    raise ValueError(
        f"root must be new, empty or hold the street {manifest}; "
        f"'{root}' holds {found}: remove it or name another"
    )


def _write(root: Path, manifest: dict, progress: Callable, workers: int | None) -> None:
    drives, frames, seed = (manifest[name] for name in ("drives", "frames", "seed"))
    total = drives * frames
    workers = min(workers or cores(), total)
    # Runs of neighbouring frames, which share the lidar's turns.
    edges = [k * total // workers for k in range(workers + 1)]
    runs = [range(a, b) for a, b in zip(edges, edges[1:], strict=False)]
    try:
        with replacing(root) as work:
            remove(work)  # of a killed process of the same number
            _write_drives(work, drives, frames)
            if workers == 1:
                ticks = _write_frames(work, runs[0], frames, seed)
            else:
                ticks = _in_processes(work, runs, frames, seed)
            with closing(ticks):  # ends the processes before anything is removed
                for done, _ in enumerate(ticks, start=1):
                    progress(done, total)
            write_json(work / MANIFEST, manifest)
            if not _holds(root, manifest):  # it is empty or of an older version
                remove(root)
    except OSError:
        if not _holds(root, manifest):  # another host was faster
            raise


def _write_drives(work: Path, drives: int, frames: int) -> None:
    """Writes the files that belong to no frame."""
    for drive in range(1, drives + 1):
        times = rig.timestamps(frames, offset=600.0 * (drive % 60))  # within a day
        for sensor in (*rig.CAMERAS, "velodyne_points", "oxts"):
            path = work / RAW / DRIVE.format(drive) / sensor / "timestamps.txt"
            path.parent.mkdir(parents=True)
            path.write_text(times)
    for name, text in rig.calibration_files().items():
        (work / RAW / name).write_text(text)


def _write_frames(work: Path, run: range, frames: int, seed: int) -> Ticks:
    """Renders and writes a run of all drives' frames; yields after each."""
    for k in run:
        drive, frame = k // frames + 1, k % frames
        for name, content in render(seed, drive, frame).items():
            tree = ANNOTATED if name.startswith("proj_depth") else RAW
            path = work / tree / DRIVE.format(drive) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        yield


def _in_processes(work: Path, runs: list[range], frames: int, seed: int) -> Ticks:
    """Writes each run of frames in a fresh interpreter; yields once a frame.

    Not multiprocessing: its fork is unsafe once JAX has started threads, and its
    spawn imports the caller's script again, which goes wrong where that script has no
    `__main__` guard. Not threads: NumPy's many small operations queue for the GIL.
    """
    code = f"from {__name__} import main; main()"
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    env = {**os.environ, **one_thread, "PYTHONPATH": path}
    read_end, write_end = os.pipe()
    processes, said = [], []
    try:
        with open(read_end) as lines:
            with open(write_end, "wb") as output:
                for run in runs:
                    job = json.dumps([str(work), run.start, run.stop, frames, seed])
                    command = [sys.executable, "-c", code, job]
                    options: dict = {"env": env, "stdout": output, "stderr": output}
                    processes.append(subprocess.Popen(command, **options))
            for line in lines:
                if line.strip() == TICK:
                    yield
                else:
                    said.append(line)
                if any(process.poll() for process in processes):
                    _kill(processes)  # the lines end after what is still in the pipe
        if any([process.wait() for process in processes]):
            message = "".join(said) or [process.returncode for process in processes]
            raise RuntimeError(f"a process that renders the street died: {message}")
    finally:
        _kill(processes)


def _kill(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        process.kill()
        process.wait()


def main() -> None:
    """The rendering process: reads its job from the command line, prints ticks."""
    cv2.setNumThreads(1)  # the other cores belong to the other processes
    work, first, last, frames, seed = json.loads(sys.argv[1])
    for _ in _write_frames(Path(work), range(first, last), frames, seed):
        os.write(1, f"{TICK}\n".encode())  # a line at once, unlike print
