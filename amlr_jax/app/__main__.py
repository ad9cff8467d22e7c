"""A page on which images and videos become depth.

    python -m amlr_jax.app --checkpoint=DIR [--port=7860] [options]

DIR is a run's workdir, DIR@STEP or DIR@best for one checkpoint of it, or what
`amlr_jax.convert` wrote. Drop, paste or take an image: the page shows its depth under
the pointer, distances between two points, the points in space, and offers the files
that `amlr_jax.predict` writes. The network is compiled before the address is printed,
for the examples and for webcams of 640 x 480; another size compiles at its first image.

The server answers this machine alone unless --host says otherwise, and loads nothing
from others. Needs pip install 'amlr_jax[app]'.
"""

import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from absl import flags

from amlr_jax.runtime import command
from amlr_jax.runtime.errors import InputError

_CHECKPOINT = command.checkpoint_flag()
_EXAMPLES = flags.DEFINE_string(
    "examples", "", "Image, folder or pattern; default: held-out frames of the run."
)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address; 0.0.0.0: of all networks.")
_PORT = flags.DEFINE_integer("port", 7860, "Port.", lower_bound=1, upper_bound=65535)
_MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels", 2_100_000, "Larger images are made smaller.", lower_bound=1
)
_MAX_SECONDS = flags.DEFINE_float(
    "max_seconds", 60.0, "Longest video.", lower_bound=0.0
)
WEBCAM = 480, 640


def main(argv: list[str]) -> None:
    """Loads, compiles, and serves until it is interrupted."""
    del argv
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that the folder goes
    with tempfile.TemporaryDirectory(prefix="amlr_app_") as folder:
        server = start(
            command.path_of(_CHECKPOINT),
            Path(folder),
            examples=_EXAMPLES.value,
            bounds=(_MAX_PIXELS.value, _MAX_SECONDS.value),
            host=_HOST.value,
            port=_PORT.value,
        )
        print(f"ready: {server.local_url} (Ctrl-C ends it)", flush=True)
        server.block_thread()


def start(
    checkpoint: Path,
    folder: Path,
    *,
    examples: str = "",
    bounds: tuple[int, float] = (2_100_000, 60.0),
    host: str = "127.0.0.1",
    port: int = 7860,
) -> Any:
    """The running `gradio.Blocks`, which keeps its files in `folder`.

    `bounds` are pixels of an image and seconds of a video. InputError without gradio,
    without a network, and for an address that cannot be used.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "gradio")
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise InputError(f"{error}: pip install 'amlr_jax[app]'") from error
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        text = f"--host={host} --port={port} cannot be used: {error.strerror}"
        raise InputError(f"{text}; choose another") from error
    from amlr_jax.app import engine, layout
    from amlr_jax.data import images

    ready = engine.Engine(checkpoint, folder, engine.Bounds(*bounds))
    shown = ready.examples(examples)
    ready.prepare([WEBCAM, *map(images.read_size, shown)])
    return layout.serve(ready, shown, host=host, port=port)


if __name__ == "__main__":
    command.run(main, required=["checkpoint"])
