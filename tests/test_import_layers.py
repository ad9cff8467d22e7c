"""Imports run downwards, and the light rooms load where heavy packages are absent.

    4  convert calibrate predict app report odometry export share ablation data.check,
       main
    3  train, evaluate             which do not know each other
    2  models, data, street, checkpoints
    1  runtime
    0  losses, rebalance, geometry, metrics, on inputs, which checks their arrays

Rooms of one floor do not import each other, but where `ROOMS` says so. Nothing imports
configs. A new room needs a line in `ROOMS`.
"""

import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "amlr_jax"


class Room(NamedTuple):
    """What the modules of a room may import, besides the standard library."""

    internal: set[str]  # amlr_jax.<name>; the room itself is always allowed
    external: set[str]


GROUND = {"losses", "rebalance", "geometry", "metrics"}
LOW = GROUND | {"runtime"}
MIDDLE = LOW | {"models", "data", "street", "checkpoints", "config"}
COMMANDS = MIDDLE | {"evaluate"}

ARRAYS = {"jax", "numpy"}
IMAGES = {"PIL", "cv2", "matplotlib"}
DATA = ARRAYS | IMAGES | {"absl", "array_record", "clu", "grain", "tensorflow_datasets"}
# What turns arrays into parameters: no logging, no data set.
STEP = ARRAYS | {"einops", "flax", "optax"}
FLAGS = {"absl", "ml_collections"}
COMMAND = STEP | IMAGES | FLAGS | {"rich"}

# The longest prefix that matches a module decides.
ROOMS = {
    "amlr_jax": Room({"predict"}, set()),  # when `amlr_jax.load` is first used
    "amlr_jax.inputs": Room(set(), {"jax"}),
    "amlr_jax.losses": Room({"inputs"}, ARRAYS),
    "amlr_jax.metrics": Room({"inputs"}, ARRAYS | {"scipy"}),  # comes with jax
    "amlr_jax.geometry": Room({"inputs"}, ARRAYS),
    "amlr_jax.rebalance": Room({"inputs"}, {"jax", "optax"}),
    "amlr_jax.runtime": Room(set(), ARRAYS | FLAGS | {"rich"}),
    "amlr_jax.config": Room({"runtime"}, {"ml_collections"}),
    "amlr_jax.recipes": Room(set(), {"ml_collections"}),
    "amlr_jax.checkpoints": Room(
        {"runtime"}, ARRAYS | {"flax", "huggingface_hub", "orbax", "safetensors"}
    ),
    "amlr_jax.models": Room(
        LOW - {"rebalance"} | {"checkpoints"}, ARRAYS | {"einops", "flax"}
    ),
    # RANSAC is OpenCV's.
    "amlr_jax.models.camera_motion": Room({"geometry", "runtime"}, ARRAYS | {"cv2"}),
    # Reads files of the reference systems, of which only these know the formats.
    "amlr_jax.models.from_torch": Room(
        {"runtime"}, ARRAYS | {"flax", "torch", "safetensors"}
    ),
    "amlr_jax.street": Room({"runtime"}, {"numpy", "PIL", "cv2"}),
    "amlr_jax.data": Room(
        {"config", "metrics", "runtime", "street"},
        DATA | {"ml_collections", "imageio_ffmpeg", "scipy"},
    ),
    "amlr_jax.data.check": Room(
        {"config", "metrics", "runtime", "street"}, DATA | FLAGS | {"rich"}
    ),
    "amlr_jax.train": Room(
        MIDDLE,
        # The last two, and TensorBoard, only where `log.writers` names them.
        STEP | {"clu", "ml_collections", "tensorboardX", "wandb", "mlflow"},
    ),
    "amlr_jax.evaluate": Room(MIDDLE, COMMAND),
    "amlr_jax.convert": Room(MIDDLE, COMMAND),
    "amlr_jax.calibrate": Room(COMMANDS, COMMAND),
    "amlr_jax.predict": Room(COMMANDS, COMMAND),
    # scipy comes with jax.
    "amlr_jax.odometry": Room(COMMANDS, COMMAND | {"scipy"}),
    "amlr_jax.export": Room(COMMANDS, COMMAND),
    # Made again later from files alone: no jax.
    "amlr_jax.report": Room(
        {"runtime", "config", "data", "checkpoints"}, IMAGES | {"absl", "numpy"}
    ),
    # A page of what `predict` does, shown as the report shows it.
    "amlr_jax.app": Room(
        COMMANDS | {"predict", "report"}, COMMAND | {"gradio", "starlette"}
    ),
    "amlr_jax.ablation": Room(COMMANDS, COMMAND | {"scipy"}),
    "amlr_jax.share": Room(
        COMMANDS | {"report"}, COMMAND | {"huggingface_hub", "safetensors"}
    ),
    # Hands the training loop its evaluator, which also writes pictures and the report.
    "amlr_jax.pipeline": Room(COMMANDS | {"train", "report", "odometry"}, COMMAND),
    "amlr_jax.main": Room(COMMANDS | {"pipeline"}, COMMAND),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    prefixes = [r for r in ROOMS if module == r or module.startswith(r + ".")]
    return max(prefixes, key=len)


def imports(source: str) -> set[str]:
    """The dotted names a source imports anywhere, but for `if TYPE_CHECKING`."""
    found = set()
    queue = [ast.parse(source)]
    while queue:
        node = queue.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            queue.extend(node.orelse)
            continue
        queue.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            found.add("." * node.level + (node.module or ""))
        elif isinstance(node, ast.ImportFrom) and node.module == "amlr_jax":
            found |= {f"amlr_jax.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    return found


def violations(module: str, source: str) -> list[str]:
    """What a module imports against the rule of its room."""
    name = room_of(module)
    room = ROOMS[name]
    own = name.split(".")[1:2]
    allowed = {"__version__", *own, *room.internal}
    wrong = []
    for imported in sorted(imports(source)):
        root, *rest = imported.split(".")
        if root == "amlr_jax":
            wrong += [imported] if rest and rest[0] not in allowed else []
        elif root not in sys.stdlib_module_names | room.external:
            wrong.append(imported)
    return wrong


def test_imports_run_downwards():
    wrong = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = module_name(path)
        if found := violations(module, path.read_text()):
            wrong[module] = found
    assert not wrong, f"See ROOMS in {Path(__file__).name}."


def test_the_rule_catches():
    cases = [
        ("amlr_jax.losses.depth", "from amlr_jax import metrics"),
        ("amlr_jax.losses.depth", "def f():\n    import optax"),
        ("amlr_jax.metrics", "from amlr_jax.losses.masked import masked_mean"),
        ("amlr_jax.rebalance.amlr", "import flax.linen as nn"),
        ("amlr_jax.models.depth", "import amlr_jax.data.kitti"),
        ("amlr_jax.data.kitti", "from amlr_jax.models import depth"),
        ("amlr_jax.data.kitti", "import flax"),
        ("amlr_jax.train.loop", "from amlr_jax.evaluate import protocol"),
        ("amlr_jax.evaluate.tables", "from amlr_jax.train import state"),
        ("amlr_jax.train.loop", "import tensorflow as tf"),
        ("amlr_jax.train.loop", "from amlr_jax import main"),
        ("amlr_jax.predict.mp4", "from amlr_jax.odometry import drives"),
        ("amlr_jax.main", "import configs.kitti"),
        ("amlr_jax.losses.depth", "from . import masked"),
        ("amlr_jax.unheard_of", "import jax"),
    ]
    missed = [case for case in cases if not violations(*case)]
    assert not missed


def test_the_rule_allows():
    source = (
        "from typing import TYPE_CHECKING\nimport jax.numpy as jnp\n"
        "from amlr_jax.losses import masked\n"
        "if TYPE_CHECKING:\n    import ml_collections\n"
    )
    assert not violations("amlr_jax.losses.depth", source)


# ---------------------------------------------------------------- what really loads

TRAINING = ["flax", "orbax", "chex", "absl", "einops", "clu", "ml_collections"]
LOADING = ["tensorflow", "tensorflow_datasets", "grain", "array_record", "cv2", "PIL"]
HEAVY = [*TRAINING, *LOADING, "matplotlib", "rich", "tensorboardX", "torch"]
OPTAX_NEEDS = {"absl", "chex"}  # older or newer optax imports them itself


def load(modules: list[str], blocked: list[str]) -> None:
    """Imports and touches the modules where the blocked packages are missing."""
    code = (
        f"import sys\nsys.modules.update(dict.fromkeys({blocked}))\n"
        f"import importlib\n"
        f"for name in {modules}:\n"
        "    module = importlib.import_module(name)\n"
        "    [getattr(module, name) for name in getattr(module, '__all__', ())]\n"
        f"loaded = [n for n in {blocked} if sys.modules.get(n) is not None]\n"
        "assert not loaded, loaded\n"
    )
    environment = {"PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_losses_and_metrics_need_jax_alone():
    rooms = ["amlr_jax.losses", "amlr_jax.metrics", "amlr_jax.geometry"]
    load(rooms, [*HEAVY, "optax"])


def test_rebalance_needs_jax_and_optax_alone():
    load(["amlr_jax.rebalance"], [n for n in HEAVY if n not in OPTAX_NEEDS])


def test_the_report_needs_no_jax():
    load(["amlr_jax.report.page"], ["jax", "flax", "orbax", "tensorflow", "grain"])


UNCHANGED = """
import importlib, locale, logging, os, pkgutil, signal, sys, warnings
import jax, matplotlib, numpy
matplotlib.use("svg")
def state():
    return {
        "backend": matplotlib.get_backend(),
        "rc": dict(matplotlib.rcParams),
        "signals": [signal.getsignal(n) for n in (1, 2, 10, 12, 15)],
        "level": (logging.root.level, len(logging.root.handlers)),
        "jax": dict(jax.config.values),
        "printing": numpy.get_printoptions(),
        "locale": locale.setlocale(locale.LC_ALL),
        "streams": (sys.stdout, sys.stderr, sys.excepthook),
        "cwd": os.getcwd(),
        "ours": [f for f in warnings.filters if "amlr" in str(f)],
    }
import absl.logging, flax, grain, optax, orbax.checkpoint, rich.console, tensorboardX
import tensorflow_datasets
before = state()
import amlr_jax
for module in pkgutil.walk_packages(amlr_jax.__path__, "amlr_jax."):
    if not module.name.endswith("__main__") and module.name != "amlr_jax.main":
        importlib.import_module(module.name)
after = state()
changed = {k: (before[k], after[k]) for k in before if before[k] != after[k]}
assert not changed, changed
"""


def test_imports_do_not_change_the_process():
    """As a notebook's: plots, signals, logs and options stay what they were."""
    done = subprocess.run(
        [sys.executable, "-c", UNCHANGED],
        env={"PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_package_itself_imports_nothing():
    load(["amlr_jax"], [*HEAVY, "optax", "jax", "numpy"])
