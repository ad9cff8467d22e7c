"""Evaluates a depth network, or predictions that are files.

    python -m amlr_jax.evaluate --workdir=DIR [--config=FILE[:variant]]
        [--protocol=NAME] [--test_mode=MODE] [--checkpoint=DIR] [--resolutions]
        [--config.KEY=VALUE]
    python -m amlr_jax.evaluate --predictions=DIR (--ground_truth=DIR | --config=FILE)
        [--workdir=DIR] [--prediction_scale=N] [--ground_truth_scale=N] [--resize]
    python -m amlr_jax.evaluate --compare=DIR,DIR [--workdir=DIR]

The first evaluates a network on the test frames of a config, without --config those of
the run that the weights are of, and writes evaluation.json,
per_image.csv and frames.png to --workdir, the workdir of a run; with --checkpoint,
which is the workdir of a run or a folder of `amlr_jax.convert`, it may be any folder.
--resolutions also evaluates each side output of a self-supervised network, as Table 4
of "Better SSIM", and writes resolutions.json. --confidence compares the views of a
--test_mode, flip or windows, and writes confidence.json and confidence.png.

The second evaluates files that anybody made, 16-bit PNG, .npy, .npz, .exr or .tiff,
matched by their names, on a folder of ground truth or on the test frames of a config.
The third compares two folders that --workdir named before, frame by frame.

    --align=none|median|scale|scale_shift|disparity_scale_shift   to the ground truth
    --align_over=image|set, --align_robust                        one fit; least |error|
    --metrics=standard,kitti,delta,boundary                       sets of metrics
    --bands=0,20,40,60,80                                         by distance in metres

--protocol, --test_mode, --crop, --min_depth and --max_depth set the keys of
--config.eval with these names.
"""

from absl import flags

from amlr_jax.runtime import command
from amlr_jax.runtime.errors import InputError

_CONFIG = command.config_flag()
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run and of the results.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    None,
    "Other weights: a run, its DIR@STEP or DIR@best; or converted.",
)
_RESOLUTIONS = flags.DEFINE_bool(
    "resolutions", False, "Also evaluate each side output of a self-supervised network."
)
_TEST_MODE = flags.DEFINE_string("test_mode", None, "Test-time augmentation.")
_CONFIDENCE = flags.DEFINE_bool(
    "confidence", False, "Also whether views agree where the depth is right."
)
_OF_CONFIG: list[flags.FlagHolder] = [
    _TEST_MODE,
    flags.DEFINE_string("protocol", None, "Name of the evaluation protocol."),
    flags.DEFINE_string("crop", None, "Evaluated pixels: garg, eigen, nyu or none."),
    flags.DEFINE_float("min_depth", None, "Metres of the nearest evaluated pixel."),
    flags.DEFINE_float("max_depth", None, "Metres of the farthest evaluated pixel."),
]
_PREDICTIONS = flags.DEFINE_string("predictions", None, "Folder of predicted depth.")
_TRUTH = flags.DEFINE_string("ground_truth", None, "Folder of their ground truth.")
_SCALE = flags.DEFINE_float(
    "prediction_scale", 0.0, "Stored value of a metre; 0: 1000 in PNGs, else 1."
)
_TRUTH_SCALE = flags.DEFINE_float(
    "ground_truth_scale", None, "The same of --ground_truth."
)
_RESIZE = flags.DEFINE_bool(
    "resize",
    False,
    "Resize predictions of other sizes to the ground truth, bilinearly.",
)
_COMPARE = flags.DEFINE_list("compare", None, "Two folders with results to compare.")
_ALIGNMENTS = "none", "median", "scale", "scale_shift", "disparity_scale_shift"
_CHOICES: list[flags.FlagHolder] = [
    flags.DEFINE_enum("align", None, _ALIGNMENTS, "Fit predictions to ground truth."),
    flags.DEFINE_enum("align_over", "image", ("image", "set"), "What one fit is of."),
    flags.DEFINE_bool("align_robust", False, "Fit absolute, not squared errors."),
]
_METRICS = flags.DEFINE_list(
    "metrics", "standard", "Some of standard, kitti, delta, boundary."
)
_BANDS = flags.DEFINE_list("bands", "", "Metres between bands, as 0,20,40,60,80.")


def main(argv: list[str]) -> None:
    """Sets the config from the flags and evaluates."""
    del argv
    _check_flags()
    bands = _numbers(_BANDS)
    folder = command.path_of(_WORKDIR) if _WORKDIR.value else None
    # Imported here: a mistyped flag is reported before the seconds that jax takes.
    from amlr_jax.config import of_each_set
    from amlr_jax.evaluate import comparison, evaluator, of_predictions
    from amlr_jax.evaluate.metric_sets import Choices

    if _COMPARE.value:
        first, second = map(command.paths.expanded, _COMPARE.value)
        comparison.compare(first, second, folder)
        return
    fitted = {flag.name: flag.value for flag in _CHOICES}
    fitted["align"] = fitted["align"] or ""
    choices = Choices(**fitted, sets=tuple(_METRICS.value), bands=bands)
    config = _CONFIG.value
    if config is None and _PREDICTIONS.value:
        config = of_predictions.default_config()
    elif config is None:
        weights = _CHECKPOINT if _CHECKPOINT.value else _WORKDIR
        config = evaluator.config_of_run(command.path_of(weights))
    for flag in _OF_CONFIG:
        if flag.value is not None:
            config.eval[flag.name] = flag.value
    if _TRUTH_SCALE.value is not None:
        config.data.depth_scale = _TRUTH_SCALE.value
    if _PREDICTIONS.value:
        of_predictions.evaluate_predictions(
            config,
            command.path_of(_PREDICTIONS),
            command.path_of(_TRUTH) if _TRUTH.value else None,
            folder=folder,
            scale=_SCALE.value,
            resize=_RESIZE.value,
            choices=choices,
        )
        return
    assert folder is not None  # of `_check_flags`
    checkpoint = command.path_of(_CHECKPOINT) if _CHECKPOINT.value else None
    each_set = of_each_set(config)
    for label, one in each_set.items():
        place, source = folder, checkpoint
        if len(each_set) > 1:
            place, source = folder / label, checkpoint or folder
        evaluator.evaluate_weights(
            one,
            place,
            source,
            resolutions=_RESOLUTIONS.value,
            with_confidence=_CONFIDENCE.value,
            choices=choices,
        )


def _check_flags() -> None:
    """InputError for flags that are missing, or of another way to evaluate."""
    of_files = (_TRUTH, _SCALE, _TRUTH_SCALE, _RESIZE)
    of_networks = (_CHECKPOINT, _RESOLUTIONS, _CONFIDENCE, _TEST_MODE)
    if _COMPARE.value:
        if len(_COMPARE.value) != 2:
            raise InputError(f"--compare takes two folders; got {len(_COMPARE.value)}")
        chosen = (*_OF_CONFIG, *_CHOICES, _METRICS, _BANDS)
        others = (_CONFIG, _PREDICTIONS, *of_files, *of_networks, *chosen)
        _refuse(others, beside="--compare")
    elif _PREDICTIONS.value:
        _refuse(of_networks, beside="--predictions")
        if not _TRUTH.value and _CONFIG.value is None:
            raise InputError(
                "--predictions needs --ground_truth=DIR, or --config=FILE for the test "
                "frames of a data set"
            )
    else:
        _refuse(of_files, beside="a network")
        if _WORKDIR.value is None:
            raise InputError("--workdir is missing; see --help")


def _refuse(others: tuple[flags.FlagHolder, ...], *, beside: str) -> None:
    given = [flag.name for flag in others if flag.present]
    if given:
        raise InputError(f"--{given[0]} has no meaning beside {beside}; leave it out")


def _numbers(flag: flags.FlagHolder) -> tuple[float, ...]:
    try:
        return tuple(map(float, flag.value))
    except ValueError as error:
        raise InputError(f"--{flag.name} must be numbers; {error}") from error


if __name__ == "__main__":
    command.run(main)
