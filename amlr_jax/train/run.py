"""From a config to all that a run needs before its first step."""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from clu import parameter_overview
from jax.sharding import Mesh

from amlr_jax.checkpoints.manager import Checkpoints
from amlr_jax.config import check
from amlr_jax.data import loader, sources
from amlr_jax.data.augment import Augmentation
from amlr_jax.data.prepared import Prepared
from amlr_jax.data.views import PreparedViews
from amlr_jax.data.views import batches as view_batches
from amlr_jax.data.views.batches import Unmeasured
from amlr_jax.evaluate import presets, published
from amlr_jax.evaluate.measure_frames import of_data
from amlr_jax.evaluate.predictor import frame_predictor
from amlr_jax.evaluate.protocol import Protocol
from amlr_jax.models import fitting
from amlr_jax.models.pretrained import Pretrained
from amlr_jax.report import keep
from amlr_jax.runtime import files, workdir
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime.console import bar, show
from amlr_jax.runtime.distributed import is_first
from amlr_jax.train import build, profiling
from amlr_jax.train.state import TrainState


class Run(NamedTuple):
    """What stays the same from the first step to the last."""

    config: Any
    folder: Path
    data: Prepared | Unmeasured  # what tests the network
    seen: Prepared | PreparedViews  # what training batches are made of
    made: build.Pieces
    weights: Pretrained | None  # to start from, unless there is a checkpoint
    mesh: Mesh
    shapes: TrainState  # of the state
    sharding: TrainState  # how each array of the state lies on the mesh
    protocol: Protocol
    predict: Callable

    @property
    def initial(self) -> Callable[[], TrainState]:
        """The state before the first step."""
        return partial(build.initial_state, self.config, self.made)


def prepare(config, folder: Path) -> Run:
    """Everything but the state; makes `folder` this run's. InputError if it cannot."""
    check(config)
    profiling.check_window(config.log.profile)
    plain = config.to_dict()
    with workdir.claim(folder, plain):
        made = build.pieces(config)
        protocol = presets.protocol(config, made.network)
        weights = fitting.starting_weights(config.init_from, made.network, folder)
        mesh = parallel.make_mesh(fsdp=config.parallel.fsdp)
        _share_of_batch(config, mesh)
        if config.objective == "self_supervised":
            data, seen = view_batches.measured(config), view_batches.load(config)
        else:
            data = seen = sources.load(config.data, bar=bar)
        _check_first_crop(config, seen)
        protocol = of_data(protocol, data) if data.test else protocol
        if is_first():
            files.write_json(folder / workdir.CONFIG, plain)
    shapes = jax.eval_shape(partial(build.initial_state, config, made))
    least = config.parallel.fsdp_min_size
    return Run(
        config,
        folder,
        data,
        seen,
        made,
        weights,
        mesh,
        shapes,
        parallel.state_sharding(mesh, shapes, min_size=least),
        protocol,
        frame_predictor(made.network, mesh, protocol, at_once=config.eval.at_once),
    )


def _share_of_batch(config, mesh: Mesh) -> int:
    parts = config.optimizer.accumulate
    return parallel.share_of_batch(mesh, config.batch_size, accumulate=parts)


def _check_first_crop(config, seen: Prepared | PreparedViews) -> None:
    """A crop that does not fit is an error now, and not hours later."""
    with closing(_batches(config, seen, start=0, batch_size=1, workers=0)) as batches:
        next(batches)


def batches(run: Run, *, start: int) -> Iterator:
    """This process's share of the training batches from batch `start` on."""
    config = run.config
    share, workers = _share_of_batch(config, run.mesh), config.data.workers
    return _batches(config, run.seen, start=start, batch_size=share, workers=workers)


def _batches(config, data, *, start: int, batch_size: int, workers: int) -> Iterator:
    options = config.data
    common = {
        "batch_size": batch_size,
        "seed": config.seed,
        "start": start,
        "process": (jax.process_index(), jax.process_count()),
        "workers": workers,
        "threads": options.threads,
    }
    if isinstance(data, PreparedViews):
        return view_batches.batches(config, data, **common)
    setting = Augmentation(
        crop=tuple(options.crop),
        flip=options.flip,
        brightness_contrast=options.brightness_contrast,
        gamma=options.gamma,
        hue_saturation=options.hue_saturation,
        cut_depth=options.cut_depth,
        max_depth=config.model.max_depth,
    )
    return loader.training_batches(data, setting, kb_crop=options.kb_crop, **common)


def restored_or_new(run: Run, checkpoints: Checkpoints) -> tuple[TrainState, int]:
    """The newest good checkpoint's state, or the first, and the batches consumed."""
    found = checkpoints.restore_newest(run.shapes, run.sharding)
    if found is None:
        state = jax.jit(run.initial, out_shardings=run.sharding)()
        lies = {"params": run.sharding.params, "batch_stats": run.sharding.batch_stats}
        return fitting.start_from(state, run.weights, sharding=lies), 0
    state, record = found
    show(f"Resuming from step {int(state.step)} of {run.config.steps}")
    return state, record["batches"]


def introduce(run: Run, state: TrainState) -> None:
    """Says and keeps what is trained on what."""
    data, config = run.data, run.config
    count = parameter_overview.count_parameters(state.params)
    devices = f"{run.mesh.size} {jax.devices()[0].device_kind}"
    if is_first():
        overview = parameter_overview.get_parameter_overview(state.params)
        (run.folder / "parameters.txt").write_text(overview + "\n")
        keep.save_facts(
            run.folder,
            data,
            trained_on=len(run.seen.train),
            network=config.model.name,
            parameters=count,
            devices=devices,
            protocol=run.protocol._asdict(),
            published=published.rows_beside(run.protocol)[0],
        )
    show(
        f"{data.name} {data.split}: {len(run.seen.train)} training and "
        f"{len(data.test)} test frames{_depth_in(data)}\n"
        f"{config.model.name}: {count:,} parameters on {devices}; losses "
        f"{', '.join(build.loss_names(config))}; "
        f"loss weights by {config.rebalance.rule}\n"
        f"Workdir {run.folder}"
    )


def _depth_in(data: Prepared | Unmeasured) -> str:
    if not data.test:
        return ""
    return (
        f", {data.valid_share:.1%} of pixels with depth, median "
        f"{data.median_depth:.2f} m (prepared in {data.folder})"
    )
