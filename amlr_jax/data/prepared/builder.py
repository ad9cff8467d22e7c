"""What all prepared sets have in common: configuration, lock and filling."""

import contextlib
import dataclasses
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import tensorflow_datasets as tfds
from absl import logging

from amlr_jax.data.prepared.shards import damaged
from amlr_jax.data.storage import AS_THE_FILES, Storage
from amlr_jax.runtime.errors import InputError
from amlr_jax.runtime.locking import only_one


@dataclasses.dataclass(kw_only=True)
class SetConfig(tfds.core.BuilderConfig):
    """Names a prepared set, and says how its pixels are kept."""

    storage: Storage = AS_THE_FILES
    # Not shown: tfds logs the whole configuration.
    advance: Callable[[], None] | None = dataclasses.field(default=None, repr=False)


class SetBuilder(tfds.core.GeneratorBasedBuilder):
    """Base of builders whose `_download_and_prepare` writes all of the splits."""

    def set_info(self, features: dict) -> tfds.core.DatasetInfo:
        """Of examples that stay in the order in which they are written."""
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager):
        raise RuntimeError("_download_and_prepare writes the splits itself")

    _generate_examples = _split_generators


Builder = TypeVar("Builder", bound=SetBuilder)


def prepared_builder(
    kind: type[Builder],
    config: SetConfig,
    *,
    cache: Path,
    bar: Callable,
    title: str,
    total: int,
) -> Builder:
    """The builder of a set under `cache` that is there, or has been filled now.

    `bar(title, total)` is a context manager that yields something with `advance()`,
    which the builder calls for each file. Of several processes one prepares and the
    others wait. Raises InputError as `kind` does, and for a full disk and a set that
    has been damaged since.
    """
    builder = _opened(kind, config, cache)
    if not builder.is_prepared():
        path, doing = cache / f"{config.name}.lock", f"prepare {config.name}"
        with only_one(path, doing=doing, key="data.cache"):
            builder = _opened(kind, config, cache)
            if not builder.is_prepared():
                _fill(builder, cache, lambda: bar(title, total))
    return builder


def _opened(kind: type[Builder], config: SetConfig, cache: Path) -> Builder:
    # tfds warns that the configuration is not one of its catalogue's.
    logging.set_verbosity(logging.ERROR)
    try:
        return kind(data_dir=cache, config=config, file_format="array_record")
    # Of what was prepared before; a damaged JSON has no exception of its own in tfds.
    except Exception as error:
        raise damaged(cache / kind.name / config.name, str(error)) from error


def _fill(builder: SetBuilder, cache: Path, bar: Callable) -> None:
    # With the lock held, an unfinished folder is what a killed process left.
    for folder in Path(builder.data_dir).parent.glob("incomplete.*"):
        shutil.rmtree(folder, ignore_errors=True)
    # Our bar replaces tfds's bars and its announcements on stdout.
    tfds.disable_progress_bar()
    try:
        with bar() as progress:
            builder.builder_config.advance = progress.advance
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare()
    except InputError:
        raise
    # array_record reports a full disk, and tfds all else, as RuntimeError.
    except (OSError, RuntimeError) as error:
        raise _cannot_prepare(cache, error) from error


def _cannot_prepare(cache: Path, error: Exception) -> InputError:
    text = " ".join(str(error).split())
    return InputError(
        f"cannot prepare the data under '{cache}': {text}; "
        "choose another folder with --config.data.cache=DIR"
    )
