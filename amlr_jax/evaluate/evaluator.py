"""The test frames of a run, measured while it trains and shown when it ends."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from amlr_jax.data import loader
from amlr_jax.evaluate import presets, published, tables
from amlr_jax.evaluate.measure_frames import as_json, measure_frames, of_data
from amlr_jax.evaluate.predictor import frame_predictor
from amlr_jax.evaluate.protocol import Evaluation, Protocol, as_measured
from amlr_jax.runtime import files, workdir
from amlr_jax.runtime.console import show
from amlr_jax.runtime.distributed import is_first


class Evaluator:
    """Measures a network on the test frames of a config, in the config's protocol.

    `data` is the prepared test set, which may be empty; `folder` the workdir.
    `variables` of the methods are {"params", "batch_stats"}, whole on every device. All
    processes call the methods; the first one writes. Raises InputError for a protocol
    that cannot be or does not fit the first frame.
    """

    def __init__(
        self, config: ConfigDict, network: Any, data: Any, mesh: Mesh, folder: Path
    ) -> None:
        self.protocol = of_data(presets.protocol(config, network), data)
        self._config, self._data, self._folder = config, data, folder
        at_once = config.eval.at_once
        self._predict = frame_predictor(network, mesh, self.protocol, at_once=at_once)

    def __call__(self, variables: dict, step: int) -> Evaluation | None:
        """Writes evaluation.json and shows the table; None without a test frame."""
        if not len(self._data.test):
            return None
        predict = partial(self._predict, variables)
        result, _ = measure_frames(
            predict, self._data, self.protocol, config=self._config
        )
        if is_first():
            values = as_json(result, self.protocol, step=step)
            files.write_json(self._folder / workdir.EVALUATION, values)
        title = f"Test frames after step {step}"
        show(tables.metric_table(result, protocol=self.protocol, title=title))
        return result

    def facts(self) -> dict:
        """The protocol and the published rows beside it, for `report.keep`."""
        rows, _ = published.rows_beside(self.protocol)
        return {"protocol": self.protocol._asdict(), "published": rows}

    def held_out(self, variables: dict) -> list[dict]:
        """`config.eval.pictures` test frames, evenly spread, with their predictions."""
        frames = len(self._data.test)
        count = min(self._config.eval.pictures, frames)
        return with_predictions(
            np.linspace(0, frames - 1, count).round().astype(int) if count else (),
            partial(self._predict, variables),
            self._data,
            self.protocol,
        )


def with_predictions(
    indices: Any, predict: Callable, data: Any, protocol: Protocol
) -> list[dict]:
    """Test frames as `loader.test_frame` gives them, with what was predicted.

    Each has also `prediction`, float32 [H, W] metres as measured, and `scale`, the
    factor that is in it (see `as_measured`).
    """
    frames = []
    for index in indices:
        frame = loader.test_frame(data, int(index), kb_crop=protocol.crops_frames)
        depth = predict(frame["image"][None])[0]
        depth, scale = as_measured(depth, frame["depth"], protocol=protocol)
        frames.append({**frame, "prediction": depth, "scale": scale})
    return frames
