"""A training run from config to results: data, mesh, state, steps, evaluation."""

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
from clu import parameter_overview
from jax.sharding import Mesh
from ml_collections import ConfigDict

from amlr_jax.checkpoints import disk
from amlr_jax.checkpoints.manager import Checkpoints
from amlr_jax.config import base, check
from amlr_jax.data.prepared import cache_folder
from amlr_jax.data.sources import Joined
from amlr_jax.models import depth as networks
from amlr_jax.models import fitting
from amlr_jax.models.pretrained import Pretrained, newest_step
from amlr_jax.runtime import compilation, distributed, files, workdir
from amlr_jax.runtime import mesh as meshes
from amlr_jax.runtime.console import bar, mute, show
from amlr_jax.runtime.distributed import is_first
from amlr_jax.runtime.errors import MAIN_GUARD, InputError, counted
from amlr_jax.runtime.signals import Interrupt
from amlr_jax.runtime.watchdog import Watchdog, ending_in_time
from amlr_jax.train import build, freezing, inputs
from amlr_jax.train.flops import model_flops
from amlr_jax.train.log import Record, StepLog
from amlr_jax.train.meter import Meter, Profile
from amlr_jax.train.objectives.objective import Batch
from amlr_jax.train.step import TrainState, compile_step, evaluated, with_average
from amlr_jax.train.writers import check_installed

KEPT = ("keep", "best", "best_by", "every_hours")  # which checkpoints


class Run(NamedTuple):
    """The constant parts of a training run."""

    config: ConfigDict
    folder: Path
    components: build.Components
    train_sets: Joined
    test_sets: Joined  # `test` of each is a sequence of examples, maybe empty
    per_process_batch_size: int
    pretrained: Pretrained | None  # initial weights, unless there is a checkpoint
    mesh: Mesh
    batch: dict[str, jax.ShapeDtypeStruct]  # of all processes
    shapes: TrainState  # of the state
    sharding: TrainState  # of each array of the state

    def batches(self, *, start: int) -> Iterator[Batch]:
        """The training batches of this process from batch `start` on."""
        return self.components.objective.batches(
            self.train_sets,
            batch_size=self.per_process_batch_size,
            start=start,
            process=(jax.process_index(), jax.process_count()),
            workers=self.config.data.workers,
        )


class RunEvaluator(Protocol):
    """Evaluation as called by the loop, in all processes; rank 0 writes.

    `variables` are {"params", "batch_stats"}, replicated on each device.
    """

    def start(self, parameters: int) -> None:
        """Called before the first step, with the number of parameters."""

    def prepare(self, variables: dict) -> None:
        """Compiles the evaluation of variables with these shapes and shardings."""

    def evaluate(self, variables: dict, step: int) -> Mapping[str, float] | None:
        """The metrics of the test frames; None without any."""

    def finish(self, variables: dict, step: int) -> None:
        """Called after the last evaluation: writes pictures and the report."""


def train(
    config: ConfigDict, folder: Path, *, make_evaluator: Callable[[Run], RunEvaluator]
) -> TrainState:
    """Trains to `config.steps`, from the newest checkpoint in `folder` if there is one.

    Writes config.json, metrics.jsonl, speed.jsonl and checkpoints to `folder`, besides
    the evaluator's files, and returns the last state. After a signal to stop, it saves
    and raises `Interrupted`. Raises InputError for invalid input. With several
    processes each calls it, and rank 0 writes.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise InputError(f"a worker process would start the training: {MAIN_GUARD}")
    check(config)
    check_installed(config.log.writers)
    if not is_first():
        mute()
    saved = disk.config_of(folder / workdir.CHECKPOINTS)
    old = workdir.config_of(folder, saved=saved)
    caches = cache_folder(config.data.cache)
    compilation.use_cache(caches, wanted=config.compilation_cache)
    config = build.with_precision(config, old)
    known = {"saved": saved, "defaults": base().to_dict()}
    with workdir.claim(folder, config.to_dict(), **known) as before:
        newest = newest_step(folder)
        done = int(newest.name) if newest else 0
        config = with_schedule_of(before, config, done=done)
        return _train(config, folder, make_evaluator)


def with_schedule_of(
    before: Mapping | None, config: ConfigDict, *, done: int
) -> ConfigDict:
    """The config with the schedule of the run so far, unless `optimizer.span` is given.

    The learning rate is a function of all steps, so it would jump where a run goes on
    with other `steps`. It stays as it was planned and then at its last value, and a
    line says so. All processes call it.

    Args:
      before: the config of the run so far, in rank 0.
      done: the step of the newest checkpoint; 0 without.

    Raises:
      InputError: `steps` is less than `done`.
    """
    if config.steps < done:
        raise InputError(
            f"steps={config.steps}, but the workdir holds a run of {done} steps; set "
            "more, or choose another with --workdir=DIR"
        )
    span = tuple(config.optimizer.span)
    if before and done and not span:
        span = tuple(before["optimizer"].get("span", ())) or (0, before["steps"])
    span = tuple(distributed.of_first(span))
    config = config.copy_and_resolve_references()
    config.optimizer.span = () if span == (0, config.steps) else span
    if config.optimizer.span:
        last = build.schedule(config)(config.steps - 1)
        show(
            f"The learning rate follows the schedule of steps {span[0]} to {span[1]}; "
            f"at step {config.steps} it is {float(last):.3g}. For a new schedule from "
            f"here: --config.optimizer.span='({done},{config.steps})'"
        )
    return config


def _train(
    config: ConfigDict, folder: Path, make_evaluator: Callable[[Run], RunEvaluator]
) -> TrainState:
    """`train` in a folder that no other process trains in, from data to results."""
    meter = Meter(batch_size=config.batch_size, dtype=config.model.dtype)
    several, writes = jax.process_count() > 1, is_first()

    def evaluate(state: TrainState, step: int) -> dict:
        """Measures a state, and saves it if it is one of the best; its variables."""
        variables = _variables(run, state)
        with meter.spending("evaluating"):
            metrics = evaluator.evaluate(variables, step)
            record.evaluation(step, metrics)
        if config.checkpoint.best and metrics is not None:
            with meter.spending("saving"):
                checkpoints.save(state, step=step, metrics=dict(metrics))
        return variables

    with meter.spending("starting"):
        run, evaluator = set_up(config, folder, make_evaluator)
    rules = {name: config.checkpoint[name] for name in KEPT}
    place = folder / workdir.CHECKPOINTS
    with ExitStack() as stack:
        checkpoints = Checkpoints(place, config=config.to_dict(), **rules)
        stack.enter_context(closing(checkpoints))
        stack.enter_context(ending_in_time(active=several))
        with meter.spending("starting"):
            restored = checkpoints.restore_newest(run.shapes, run.sharding)
            start = int(restored[0].step) if restored else 0
            compiling = _compile(run, evaluator) if start < config.steps else None
            state, consumed = restored_or_initial(run, restored)
            evaluator.start(introduce(run, state))
            logged = {"config": config.to_dict(), "writers": config.log.writers}
            record = Record(folder, after=start, writes=writes, **logged)
            stack.enter_context(closing(record))
        with (
            closing(Profile(folder, config.log.profile, writes=writes)) as profile,
            closing(run.batches(start=consumed)) as batches,  # type: ignore[type-var]
            bar("Training", config.steps, done=start) as progress,
            Interrupt() as interrupt,
            Watchdog(patience=config.parallel.patience, active=several) as watchdog,
        ):
            log = StepLog(config, run.train_sets, record, meter, progress, watchdog)
            metrics: dict = {}
            for step in range(start + 1, config.steps + 1):
                with meter.spending("waiting", beside=metrics):
                    batch = meshes.put_local(next(batches), run.mesh)
                if compiling:
                    with meter.spending("compiling"), watchdog.paused():
                        step_function, meter.flops = compiling.result()
                    compiling = None
                profile.before(step)
                state, metrics = step_function(state, batch)
                profile.after(step, metrics)
                log.step(step, metrics)
                stops, is_last = interrupt.requested(step), step == config.steps
                if stops or is_last or _due(step, config.checkpoint.every_steps):
                    log.flush()
                    with meter.spending("saving"), watchdog.paused():
                        checkpoints.save(state, step=step)
                        if stops:
                            record.speed(step, meter.values())
                            checkpoints.wait()
                            interrupt.stop(step)
                if _due(step, config.eval.every_steps) and not is_last:
                    with watchdog.paused():
                        evaluate(state, step)
                meter.step()
            log.close()
            if start < config.steps:
                record.speed(config.steps, meter.values())
        with meter.spending("saving"):
            checkpoints.wait()
        variables = evaluate(state, config.steps)
        with meter.spending("evaluating"):
            evaluator.finish(variables, config.steps)
        record.speed(config.steps, {"goodput": meter.goodput()})
    show(meter.summary())
    return state


def set_up(
    config: ConfigDict, folder: Path, make_evaluator: Callable[[Run], RunEvaluator]
) -> tuple[Run, RunEvaluator]:
    """Builds all but the state, and writes config.json."""
    made = build.components(config)
    pretrained = fitting.starting_weights(
        config.init_from,
        made.network,
        folder,
        partly=config.init_partly,
        needs=made.objective.needs,
    )
    mesh = meshes.make_mesh(fsdp=config.parallel.fsdp)
    shapes = jax.eval_shape(partial(build.state_before_training, config, made))
    least = config.parallel.fsdp_min_size
    sharding = meshes.state_sharding(mesh, shapes, min_size=least)
    parts = config.optimizer.accumulate
    size = meshes.per_process_batch_size(mesh, config.batch_size, accumulate=parts)
    sets = train, test = made.objective.data_sets()
    for label, data in train.sets.items():
        if not len(data.train):
            raise InputError(
                f"data.name={label} has no training frame; measure on it with "
                "amlr_jax.evaluate"
            )
    for label, data in train.sets.items():
        show(_described(data, test.sets[label]))
    known = inputs.checked(folder, config, train_sets=train, test_sets=test)
    # Makes one example, so that a crop that does not fit is an error at the start.
    one = made.objective.batches(
        train, batch_size=1, start=0, process=(0, 1), workers=0
    )
    with closing(one):  # type: ignore[type-var]
        example = next(one)
    batch = {
        name: jax.ShapeDtypeStruct((config.batch_size, *array.shape[1:]), array.dtype)
        for name, array in example.items()
    }
    run = Run(
        config,
        folder,
        made,
        *sets,
        per_process_batch_size=size,
        pretrained=pretrained,
        mesh=mesh,
        batch=batch,
        shapes=shapes,
        sharding=sharding,
    )
    evaluator = make_evaluator(run)
    if is_first():
        files.write_json(folder / workdir.CONFIG, config.to_dict())
        files.write_json(folder / workdir.INPUTS, known)
    # Preparing data takes hours, longer than collective operations wait.
    distributed.meet("set up")
    return run, evaluator


def restored_or_initial(
    run: Run, restored: tuple[TrainState, dict] | None
) -> tuple[TrainState, int]:
    """The state of the newest good checkpoint, or the initial one; batches consumed."""
    if restored:
        state, record = restored
        show(f"Resuming from step {int(state.step)} of {run.config.steps}")
        return state, record["batches"]
    show(f"Initializing {run.config.model.name}")
    initial = partial(build.state_before_training, run.config, run.components)
    state = meshes.made_on_host(initial, run.sharding)
    params, batch_stats = run.sharding.params, run.sharding.batch_stats
    sharding = {"params": params, "batch_stats": batch_stats}
    state = fitting.start_from(state, run.pretrained, sharding=sharding)
    return with_average(state) if run.config.optimizer.ema else state, 0


def introduce(run: Run, state: TrainState) -> int:
    """Prints the network, writes parameters.txt; returns the parameter count."""
    count = networks.parameter_count(state.params)
    if is_first():
        overview = parameter_overview.get_parameter_overview(state.params)
        table, *_ = overview.rpartition("\n")  # its total of scalars is a float
        text = f"{table}\nTotal: {count:,}\n"
        (run.folder / workdir.PARAMETERS).write_text(text)
    config = run.config
    show(
        f"{config.model.name}: {counted(count, 'parameter')}{_tuned(run)} on "
        f"{run.mesh.size} "
        f"{jax.devices()[0].device_kind}, in "
        f"{networks.precision_of(run.components.network)}; losses "
        f"{', '.join(run.components.objective.loss_names)}; "
        f"loss weights by {config.rebalance.rule}{_timestep(config)}\n"
        f"Workdir {run.folder}"
    )
    return count


def _tuned(run: Run) -> str:
    """How many parameters are trained, if not all, and what is evaluated."""
    options, shapes = run.config.optimizer, run.shapes
    text = ""
    if options.freeze:
        frozen = jax.tree.leaves(freezing.frozen(shapes.params, options.freeze))
        sizes = [leaf.size for leaf in jax.tree.leaves(shapes.params)]
        still = sum(size for size, stays in zip(sizes, frozen, strict=True) if stays)
        text += f", {still:,} of them frozen,"
    return text + (f" (evaluated: averages, {options.ema:g})" if options.ema else "")


def _described(train: Any, test: Any) -> str:
    """The numbers of frames of a data set, and its depth."""
    depth = ""
    if test.test:
        depth = (
            f", {test.valid_share:.1%} of pixels with depth, median "
            f"{test.median_depth:.2f} m (prepared in {test.folder})"
        )
    frames = f"{len(train.train)} training and {counted(len(test.test), 'test frame')}"
    return f"{test.name} {test.split}: {frames}{depth}"


def _timestep(config: ConfigDict) -> str:
    """How often the rule updates, if not at every step."""
    every, rule = config.rebalance.every_k_steps, config.rebalance.rule
    if every == 1 or rule == "fixed":
        return ""
    never = ": never in this run" if every > config.steps else ""
    return f", updated every {every} steps{never}"


def _compile(run: Run, evaluator: RunEvaluator) -> Future:
    """Begins to compile the step beside the start: its function and model FLOPs.

    The evaluation is compiled, too, by one process with a GPU: a CPU's cores are busy.
    """
    threads = ThreadPoolExecutor()
    if jax.default_backend() != "cpu" and jax.process_count() == 1:
        whole = meshes.replicated(run.mesh)
        shapes = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole),
            evaluated(run.shapes),
        )
        threads.submit(evaluator.prepare, shapes)  # evaluation raises its error again
    return threads.submit(_step_function, run)


def _step_function(run: Run) -> tuple[Callable, int]:
    """The compiled step of a run, and its model FLOPs."""
    made = run.components
    step_function = compile_step(
        run.mesh,
        state_sharding=run.sharding,
        accumulate=run.config.optimizer.accumulate,
        ema=run.config.optimizer.ema,
        objective=made.objective.losses,
        rebalancer=made.rebalancer,
        optimizer=made.optimizer,
        schedule=made.schedule,
    )
    size = "x".join(map(str, next(iter(run.batch.values())).shape[1:3]))
    step, jaxpr = compilation.compiled(
        step_function,
        *(run.shapes, run.batch),
        what=f"the training step, {run.config.batch_size} x {size}",
        remedy=build.memory_remedy(run.config),
    )
    return step, model_flops(jaxpr)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _variables(run: Run, state: TrainState) -> dict:
    """What is evaluated of the state, replicated on each device."""
    variables = evaluated(state)
    if run.config.parallel.fsdp == 1:
        return variables
    return meshes.gathered(variables, run.mesh)
