"""All test frames of a prepared data set, measured by one protocol."""

from collections.abc import Callable
from typing import NamedTuple

from amlr_jax import metrics
from amlr_jax.data import loader
from amlr_jax.evaluate.protocol import Evaluation, Protocol, evaluate
from amlr_jax.runtime.console import bar
from amlr_jax.runtime.errors import InputError

RESULT = "evaluation.json"


def of_data(protocol: Protocol, data) -> Protocol:
    """The protocol with the data's name, split and constant; checks the first frame.

    Raises InputError if a crop is not defined on it. Without a test frame there is
    nothing to check.
    """
    made = protocol._replace(
        dataset=data.name, split=data.split, median_depth=data.median_depth
    )
    if not len(data.test):
        return made
    frame = loader.test_frame(data, 0, kb_crop=made.crops_frames)
    shape = frame["depth"].shape
    try:
        metrics.evaluation_mask(*shape, crop=made.crop)
        if made.paste_back:
            metrics.kb_crop_offsets(*shape)
    except ValueError as error:
        raise InputError(f"eval.crop of eval.protocol={made.name}: {error}") from error
    return made


class _Named(NamedTuple):
    """Test frames that remember the key of each one read: batches do not carry it."""

    test: "_Remembering"
    depth_scale: float


class _Remembering:
    def __init__(self, examples) -> None:
        self._examples, self.keys = examples, {}

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> dict:
        example = self._examples[index]
        self.keys[index] = example["key"].decode()
        return example


def measure_frames(
    predict: Callable, data, protocol: Protocol, *, config
) -> tuple[Evaluation, list[str]]:
    """Measures `predict` (uint8 images to metres) on all test frames; also their keys.

    `config` is the run's; InputError if no pixel counts.
    """
    named = _Named(_Remembering(data.test), data.depth_scale)
    batches = loader.evaluation_batches(
        named,
        batch_size=config.eval.batch_size,
        kb_crop=protocol.crops_frames,
        threads=config.data.threads,
    )
    with bar("Evaluating", len(data.test)) as report:
        result = evaluate(predict, batches, protocol=protocol, advance=report.advance)
    return result, [named.test.keys[i] for i in range(len(data.test))]


def as_json(result: Evaluation, protocol: Protocol, **more) -> dict:
    """What evaluation.json holds."""
    ratio = {} if result.ratio is None else {"median_ratio": result.ratio}
    return {
        **more,
        "protocol": protocol._asdict(),
        "metrics": result.metrics,
        "constant": result.constant,
        "frames": result.frames,
        "frames_without_depth": result.skipped,
        **ratio,
    }
