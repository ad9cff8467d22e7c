"""Writes the street as a KITTI folder, with several processes, all or nothing."""

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import cv2

from amlr_jax.runtime.locking import only_one
from amlr_jax.street import rig
from amlr_jax.street.frames import oxts, render

DATE = "2000_01_01"  # no day of KITTI's, so that no split list can mix them up
MANIFEST = "street.json"
TICK = "frame"
VERSION = 1  # raise it when the same arguments give other files


def generate(root, *, drives=6, frames=20, seed=0, progress=None, workers=None):
    """Writes the street under `root`, in the layout of KITTI's raw and depth data.

    The files appear at `root` all at once, when the last is done. A root that
    already holds the same street is left alone. Of several processes one renders and
    the others wait.

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
    manifest = _manifest(drives=drives, frames=frames, seed=seed)
    if _already_there(root, manifest):
        return root
    lock = root.with_name(f".{root.name}.lock")
    with only_one(lock, doing="render the street", key="data.root"):
        if not _already_there(root, manifest):
            _write(root, manifest, progress, workers)
    return root


def _write(root, manifest, progress, workers):
    """Renders beside `root`, so that the move is one rename within a file system."""
    work = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    try:
        _fill(work, manifest, progress or (lambda done, total: None), workers)
        (work / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        work.chmod(0o755)  # mkdtemp's folders are private
        os.replace(work, root)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        if not _already_there(root, manifest):  # another host was faster
            raise


def _manifest(**arguments):
    lowest = {"drives": 1, "frames": 1, "seed": 0}
    for name, value in arguments.items():
        if int(value) != value or value < lowest[name]:
            raise ValueError(
                f"{name} must be a whole number from {lowest[name]}, got {value!r}"
            )
    return {"version": VERSION, **{k: int(v) for k, v in arguments.items()}}


def _already_there(root, manifest):
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / MANIFEST).read_text())
    except (OSError, ValueError):
        found = None
    if found != manifest:
        raise ValueError(
            f"root must be new, empty or hold the street {manifest}; "
            f"'{root}' holds {found or 'something else'}: remove it or name another"
        )
    return True


def _fill(work, manifest, progress, workers):
    drives, frames, seed = (manifest[k] for k in ("drives", "frames", "seed"))
    day = work / "raw_data" / DATE
    day.mkdir(parents=True)
    for name, text in rig.calibration_files().items():
        (day / name).write_text(text)
    for drive in range(1, drives + 1):
        _lay_out(work, drive, frames)
    todo = [(drive, k) for drive in range(1, drives + 1) for k in range(frames)]
    workers = min(workers or os.cpu_count() or 1, len(todo))
    if workers == 1:
        done = _write_frames(work, todo, seed)
    else:
        # Runs of neighbouring frames, which share the lidar's turns.
        runs = [todo[k * len(todo) // workers :] for k in range(workers + 1)]
        runs = [a[: len(a) - len(b)] for a, b in zip(runs, runs[1:], strict=False)]
        done = _in_processes(work, runs, seed)
    for k, _ in enumerate(done):
        progress(k + 1, len(todo))


def _in_processes(work, runs, seed):
    """Writes each run of frames in a fresh interpreter; yields once a frame.

    Not multiprocessing: its fork is unsafe once JAX has started threads, and its
    spawn imports the caller's script again, which goes wrong where that script has no
    `__main__` guard. Not threads: NumPy's many small operations queue for the GIL.
    """
    messages, processes = queue.SimpleQueue(), []
    try:
        for run in runs:
            processes.append(_start())
            job = json.dumps([str(work), run, seed])
            listen = (processes[-1], job, messages)
            threading.Thread(target=_listen, args=listen, daemon=True).start()
        yield from _ticks(messages, len(processes))
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _ticks(messages, running):
    """Yields at every tick until all processes have ended well."""
    while running:
        message = messages.get()
        if message == TICK:
            yield
        elif message:
            raise RuntimeError(f"a process that renders the street died:\n{message}")
        else:
            running -= 1


def _start():
    """A process that runs `main`; its output carries the ticks and its last words."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import main; main()"],
        env={**os.environ, **one_thread, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _listen(process, job, messages):
    """Passes on a tick for every frame, then "" or what the process said in failing."""
    said = []
    with contextlib.suppress(BrokenPipeError):  # it died early; its status tells
        process.stdin.write(job)
        process.stdin.close()
    for line in process.stdout:
        if line.strip() == TICK:
            messages.put(TICK)
        else:
            said.append(line)
    failed = process.wait() != 0
    messages.put("".join(said) or f"status {process.returncode}" if failed else "")


def main():
    """The rendering process: reads its job from stdin, prints a line a frame."""
    cv2.setNumThreads(1)  # the other cores belong to the other processes
    work, run, seed = json.loads(sys.stdin.read())
    for _ in _write_frames(Path(work), run, seed):
        print(TICK)


def _drive_folder(drive):
    return f"{DATE}_drive_{drive:04d}_sync"


def _sensor_folders(work, drive):
    """Sensor -> folder of a drive, in KITTI's layout."""
    raw = work / "raw_data" / DATE / _drive_folder(drive)
    return {name: raw / name for name in (*rig.CAMERAS, "velodyne_points", "oxts")}


def _depth_folder(work, drive, camera):
    parent = work / "data_depth_annotated" / "train" / _drive_folder(drive)
    return parent / "proj_depth" / "groundtruth" / camera


def _lay_out(work, drive, frames):
    """Makes a drive's folders and the files that belong to no frame."""
    start = 600.0 * (drive % 60)  # within a day
    folders = _sensor_folders(work, drive)
    for folder in folders.values():
        (folder / "data").mkdir(parents=True)
        (folder / "timestamps.txt").write_text(rig.timestamps(frames, offset=start))
    (folders["oxts"] / "dataformat.txt").write_text(rig.DATAFORMAT)
    for name, shift in (("start", -0.05), ("end", 0.05)):
        text = rig.timestamps(frames, offset=start + shift)
        (folders["velodyne_points"] / f"timestamps_{name}.txt").write_text(text)
    for camera in rig.CAMERAS:
        _depth_folder(work, drive, camera).mkdir(parents=True)


def _write_frames(work, run, seed):
    """Renders and writes frames [(drive, frame), ...]; yields after each."""
    for drive, frame in run:
        files, name = render(seed, drive, frame), f"{frame:010d}"
        folders = {k: v / "data" for k, v in _sensor_folders(work, drive).items()}
        (folders["oxts"] / f"{name}.txt").write_text(oxts(seed, drive, frame))
        (folders["velodyne_points"] / f"{name}.bin").write_bytes(files["velodyne", ""])
        for camera in rig.CAMERAS:
            (folders[camera] / f"{name}.png").write_bytes(files["image", camera])
            depth = _depth_folder(work, drive, camera) / f"{name}.png"
            depth.write_bytes(files["depth", camera])
        yield
