"""Writes the street as a KITTI folder, with several processes, all or nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import cv2

from amlr_jax.runtime.cluster import cores
from amlr_jax.runtime.console import bar
from amlr_jax.runtime.files import remove, replacing, write_json
from amlr_jax.runtime.locking import only_one
from amlr_jax.street import rig
from amlr_jax.street.frames import render

DATE = "2000_01_01"  # not a date of KITTI, so that no split list of KITTI matches
RAW, ANNOTATED = f"raw_data/{DATE}", "data_depth_annotated/train"
DRIVE = f"{DATE}_drive_{{:04d}}_sync"
MANIFEST = "street.json"
RUNS = 4  # of frames, for each process
VERSION = 2  # increase it when the same arguments give other files


def generate(
    root: str | Path,
    *,
    drives: int = 6,
    frames: int = 20,
    seed: int = 0,
    workers: int | None = None,
) -> Path:
    """Writes the street under `root`, in the layout of KITTI's raw and depth data.

    The files appear at `root` all at once, when the last is done. A root that already
    holds the same street is left alone; Of several processes one renders and
    the others wait.

    Args:
      root: folder to write; it may exist if it is empty.
      drives: number of drives, each its own street.
      frames: frames of each drive, ten a second, about a metre apart.
      seed: of everything; same arguments, same bytes (on one machine's libraries).
      workers: processes, default one a core; 1 works inside this process.

    Returns:
      The root, a `pathlib.Path`.

    Raises:
      ValueError: root holds something else.
    """
    root = Path(root)
    manifest = {"version": VERSION, "drives": drives, "frames": frames, "seed": seed}
    if _holds(root, manifest):
        return root
    lock = root.with_name(f".{root.name}.lock")
    with only_one(lock, doing="render the street", key="data.root"):
        if not _holds(root, manifest):
            _write(root, manifest, workers)
    return root


def _holds(root: Path, manifest: dict) -> bool:
    """Whether the street is there; ValueError if something else is."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / MANIFEST).read_text())
    except (OSError, ValueError):
        found = "something else"
    if found == manifest:
        return True
    raise ValueError(
        f"root must be new, empty or hold the street {manifest}; "
        f"'{root}' holds {found}: remove it or name another"
    )


def _write(root: Path, manifest: dict, workers: int | None) -> None:
    total = manifest["drives"] * manifest["frames"]
    workers = min(workers or cores(), total)
    # Runs of neighbouring frames, which share the lidar's turns; some for each process,
    # so that progress is seen.
    length = max(total // (RUNS * workers), 1)
    runs = [range(total)[k : k + length] for k in range(0, total, length)]
    try:
        with replacing(root) as work:
            remove(work)  # of a killed process of the same number
            _write_drives(work, manifest["drives"], manifest["frames"])
            with bar("Rendering the street", total) as shown:
                if workers == 1:
                    _write_frames(work, range(total), manifest, shown.advance)
                else:
                    _in_processes(work, runs, manifest, shown.advance, workers)
            write_json(work / MANIFEST, manifest)
            if not _holds(root, manifest):  # it is empty
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


def _write_frames(work: Path, run: range, manifest: dict, progress: Callable) -> None:
    """Renders and writes a run of all drives' frames."""
    for k in run:
        drive, frame = k // manifest["frames"] + 1, k % manifest["frames"]
        for name, content in render(manifest["seed"], drive, frame).items():
            tree = ANNOTATED if name.startswith("proj_depth") else RAW
            path = work / tree / DRIVE.format(drive) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        progress()


def _in_processes(
    work: Path, runs: list[range], manifest: dict, progress: Callable, workers: int
) -> None:
    """Writes each run of frames in a fresh interpreter, `workers` at a time.

    Not multiprocessing: its fork is unsafe once JAX has started threads, and its
    spawn imports the caller's script again, which goes wrong where that script has no
    `__main__` guard. Not threads: NumPy's many small operations queue for the GIL.
    """
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    env = {**os.environ, **one_thread, "PYTHONPATH": path}
    command = [sys.executable, "-c", f"from {__name__} import main; main()"]

    def write(run: range) -> range:
        job = json.dumps([str(work), run.start, run.stop, manifest])
        made = subprocess.run([*command, job], env=env, capture_output=True, text=True)
        if made.returncode:
            why = made.stderr or made.returncode
            raise RuntimeError(f"a process that renders the street died: {why}")
        return run

    pool = ThreadPoolExecutor(workers)
    try:
        for ended in as_completed([pool.submit(write, run) for run in runs]):
            for _ in ended.result():
                progress()
    finally:
        pool.shutdown(cancel_futures=True)


def main() -> None:
    """The rendering process: reads its job from the command line."""
    cv2.setNumThreads(1)  # the other cores belong to the other processes
    work, first, last, manifest = json.loads(sys.argv[1])
    _write_frames(Path(work), range(first, last), manifest, lambda: None)
