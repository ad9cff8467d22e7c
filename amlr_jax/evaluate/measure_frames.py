"""All test frames of a prepared data set, measured by one protocol."""

from collections.abc import Callable, Iterator

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


def measure_frames(
    predict: Callable, data, protocol: Protocol, *, config
) -> tuple[Evaluation, list[str]]:
    """Measures `predict` (uint8 images to metres) on all test frames; also their keys.

    `config` is the run's; InputError if no pixel counts.
    """
    batches = loader.evaluation_batches(
        data,
        batch_size=config.eval.batch_size,
        kb_crop=protocol.crops_frames,
        threads=config.data.threads,
    )
    keys: list[str] = []

    def named(batches: Iterator[loader.Batch]) -> Iterator[loader.Batch]:
        for batch in batches:
            keys.extend(batch["key"].tolist())
            yield batch

    with bar("Evaluating", len(data.test)) as report:
        frames = named(batches)
        result = evaluate(predict, frames, protocol=protocol, advance=report.advance)
    return result, keys


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
