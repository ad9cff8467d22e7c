"""What all commands share: flags, configs, and one line with status 1 for a mistake."""

import ast
import logging
import os
import re
import runpy
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from amlr_jax.runtime import paths
from amlr_jax.runtime.errors import InputError, did_you_mean

CUDA = (
    "For an NVIDIA GPU install jax with CUDA, as by pip install 'jax[cuda13]'; for the "
    "CPU set JAX_PLATFORMS=cpu"
)
BOOLEANS = ("true", "false")
KINDS = {  # of a value, by what Python and ml_collections say of another
    "invalid literal": "a whole number, written with digits alone",
    "could not convert": "a number",
    "('Non-boolean": "True or False",
}
flags.disclaim_key_flags()  # --help lists those of the command
SOURCE = Path(__file__).parents[2]  # of a clone; site-packages, if installed


def fail(message: str) -> NoReturn:
    """Ends the command: the message on one line of stderr, status 1."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    sys.exit(1)


def run(main: Callable[[list[str]], int | None], **options: Any) -> None:
    """Runs `main` as a command of absl flags; `options` are those of `parse`.

    `main` gets the arguments that are no flags. A mistyped flag and an InputError are
    one line and status 1.
    """
    parser = partial(parse, **options)
    app.run(report_input_errors(main), flags_parser=parser, argv=sys.argv)


def report_input_errors(main: Callable) -> Callable:
    """`main` that prints an InputError as one line, without a traceback.

    So it does where JAX_PLATFORMS names a device that jax cannot use.
    """

    def guarded(argv: list[str]) -> int | None:
        # Lines of libraries break the bar.
        absl_logging.set_verbosity(absl_logging.ERROR)
        warnings.filterwarnings("ignore", module="PIL")
        show_warnings_of_jax()
        try:
            return main(argv[1:])
        except InputError as error:
            fail(str(error))
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            if Path(last.filename).name != "xla_bridge.py":  # where jax chooses devices
                raise
            asked, why = os.environ.get("JAX_PLATFORMS", ""), str(error)
            why = f" ({why.partition(' (set')[0]})" if why else ""
            fail(f"jax finds no device for JAX_PLATFORMS={asked}{why}. {CUDA}")

    return guarded


class _Warnings(logging.Handler):
    """Shows warnings of jax, above a running bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from amlr_jax.runtime.console import watcher

        text = f"warning: {record.getMessage()}"
        if "CUDA" in text:  # jax falls back to the CPU
            text += f" The CPU takes many times as long. {CUDA}"
        watcher.print(text, style="bold yellow", markup=False, soft_wrap=True)


def show_warnings_of_jax() -> None:
    """Shows what jax warns of, as of the CPU beside a GPU, whatever absl hides."""
    logger = logging.getLogger("jax")
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    if not any(isinstance(handler, _Warnings) for handler in logger.handlers):
        logger.addHandler(_Warnings())


def parse(
    argv: list[str],
    *,
    required: Sequence[str] = (),
    takes_paths: bool = False,
    takes_overrides: bool = False,
) -> list[str]:
    """Parses flags for app.run; a mistyped or missing flag is reported in one line.

    There are no arguments that are no flags unless `takes_paths`. With
    `takes_overrides` every `--config.KEY=VALUE` is one, in a command without --config.
    """
    kept = [a for a in argv if takes_overrides and a.startswith("--config.")]
    if {"-h", "--help"} & set(argv[1:]):  # with status 0, where absl has 1
        app.usage(shorthelp=True, writeto_stdout=True, exitcode=0)
    try:
        check_config_keys(argv)
        rest = flags.FLAGS([argument for argument in argv if argument not in kept])
        _check_given(required)
    except flags.UnrecognizedFlagError as error:
        module_of = flags.FLAGS.find_module_defining_flag
        own = [n for n in flags.FLAGS if not str(module_of(n)).startswith("absl.")]
        meant = did_you_mean(error.flagname, own)
        fail(f"unknown option '--{error.flagname}'{meant or '; see --help'}")
    except (InputError, flags.Error) as error:
        fail(_last_line(error))
    if len(rest) > 1 and not takes_paths:
        fail(f"unexpected argument '{rest[1]}'; options are --name=value")
    return rest + kept


def _check_given(required: Sequence[str]) -> None:
    """Raises InputError for a missing or an empty value and for two configs.

    Whether a key of the config may be empty is a rule of `amlr_jax.config`.
    """
    for name in flags.FLAGS:
        flag = flags.FLAGS[name]
        text = flag.value if isinstance(flag.value, str) else "not a text"
        if flag.present and not text.strip() and not name.startswith("config."):
            raise InputError(f"--{name} is empty; give a value, or leave it out")
        if name == "config" and flag.present > 1:
            raise InputError("--config is given twice; give one")
    missing = [f"--{name}" for name in required if flags.FLAGS[name].value is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} missing; --help tells what to give")


def check_config_keys(argv: list[str]) -> None:
    """Raises InputError for an override of a key that the config does not have."""
    files = [a.partition("=")[2] for a in argv if re.match(r"--?config=", a)]
    pairs = zip(argv, argv[1:], strict=False)
    files += [after for a, after in pairs if a in ("-config", "--config")]
    if not files:
        return
    config = load_config(files[-1])
    known = list(_keys(config))
    for argument in argv:
        match = re.match(r"--?(?:no)?config\.([^=]+)", argument)
        if match:
            _check_key(match[1], known)


def _check_key(key: str, known: list[str]) -> None:
    if key not in known:
        raise InputError(f"unknown config key '{key}'{did_you_mean(key, known)}")


def path_of(flag: flags.FlagHolder) -> Path:
    """The path that a required flag names, `~` expanded."""
    return paths.expanded(flag.value)


def override(config: ConfigDict, key: str, value) -> None:
    """Sets a dotted key in place; text is parsed as on the command line."""
    _check_key(key, list(_keys(config)))
    *path, name = key.split(".")
    for part in path:
        config = config[part]
    if isinstance(value, str) and config.get_type(name) is not str:
        try:
            value = ast.literal_eval(value.capitalize() if value in BOOLEANS else value)
        except (ValueError, SyntaxError) as error:
            raise InputError(f"{key} cannot be '{value}'") from error
    try:
        config[name] = value
    except TypeError as error:
        raise InputError(f"{key}: {error}") from error


def load_config(file_and_variant: str) -> ConfigDict:
    """The config of FILE[:variant], without the overrides of the command line."""
    return made_by_file(file_and_variant, kind="config")


def checkpoint_flag() -> flags.FlagHolder:
    """Defines --checkpoint, the weights that a command reads."""
    text = "Workdir of a run, or its DIR@STEP or DIR@best; or converted."
    return flags.DEFINE_string("checkpoint", None, text)


def config_flag() -> flags.FlagHolder:
    """Defines --config=FILE[:variant] with overrides; `load_config` reads the file."""
    text = "FILE[:variant], e.g. configs/kitti.py or configs/kitti.py:tiny."
    holder = config_flags.DEFINE_config_file("config", None, text)
    flag: Any = flags.FLAGS["config"]
    flag.default_as_str = None  # --help would tell 'None'
    flag.parser.parse = lambda value: load_config(value).lock()
    return holder


def made_by_file(file_and_variant: str, *, kind: str) -> Any:
    """The result of `get_<kind>` in FILE[:variant]; InputError without one.

    A file that is not there is looked for in the source of this package, if that is a
    clone: a wheel holds no configs.
    """
    file, *variant = _file_and_variant(file_and_variant, kind=kind)
    names = runpy.run_path(str(file))
    if f"get_{kind}" not in names:
        raise InputError(f"'{file}' has no `get_{kind}`: it is no {kind}")
    try:
        return names[f"get_{kind}"](*variant)
    except ValueError as error:
        raise InputError(str(error)) from error


def _file_and_variant(text: str, *, kind: str) -> list[str]:
    """The longest start of FILE:variant that is a file, and what is after its colon."""
    colons = [place for place, sign in enumerate(text) if sign == ":"]
    roots = [Path(), SOURCE] if (SOURCE / "pyproject.toml").is_file() else [Path()]
    for end in (len(text), *colons[::-1]):
        for path in (root / paths.expanded(text[:end]) for root in roots):
            if path.is_file():
                return [str(path), *([text[end + 1 :]] if text[end:] else [])]
    hint = ""
    if not (SOURCE / "configs").is_dir():
        hint = (
            "; configs/ is in the source, not in the wheel: clone it, or copy it here"
        )
    raise InputError(f"no {kind} file '{text.partition(':')[0]}'{hint}")


def _keys(config: ConfigDict, prefix: str = "") -> Iterator[str]:
    for name, value in config.items():
        yield prefix + name
        if isinstance(value, ConfigDict):
            yield from _keys(value, f"{prefix}{name}.")


def _last_line(error: Exception) -> str:
    """The message of an error without the traceback that config_flags adds."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    text = re.sub(r"^\w*(Error|Exception): ", "", lines[-1])
    found = re.fullmatch(r"flag --([\w.]+)=(.*?): (.*)", text)
    for said, kind in KINDS.items():
        if found and found[3].startswith(said):
            return f"--{found[1]} must be {kind}, got '{found[2]}'"
    return text
