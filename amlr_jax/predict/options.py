"""What `predict` can be asked for, and what does not go together."""

from typing import NamedTuple

from amlr_jax.evaluate import tiling
from amlr_jax.predict import cameras, inputs, outputs
from amlr_jax.predict.inputs import Source
from amlr_jax.runtime.errors import InputError

FORM = "covering"  # every column is the mean of windows, the last ones too


class Options(NamedTuple):
    """What is asked for beside checkpoint, input and output."""

    save: tuple[str, ...] = ("png16", "npy", "color")  # of `outputs.KINDS`
    batch_size: int = 1  # images of one size
    tile: bool = False  # in overlapping squares
    flip: bool = False  # the mean with the mirrored image
    intrinsics: str = ""  # see `cameras.reader`
    fov: float | None = None  # degrees, horizontal
    ply_stride: int = 1  # pixels from point to point
    max_depth: float | None = None  # metres, of the colours; None: the network's
    limit: int = 0  # images, and frames of a video; 0: all
    overwrite: bool = False

    @property
    def mode(self) -> tiling.Mode:
        """How the network looks at an image."""
        if self.tile:
            return tiling.Mode("shifted_flip" if self.flip else "shifted", form=FORM)
        return tiling.Mode("flip" if self.flip else "none")

    def settings(self) -> dict:
        """What makes other results of the same image."""
        names = ("tile", "flip", "intrinsics", "fov", "ply_stride", "max_depth")
        return {name: getattr(self, name) for name in names}


DEFAULTS = Options()


def check(options: Options) -> cameras.Reader | None:
    """The reader of cameras; InputError for options that do not go together."""
    unknown = [kind for kind in options.save if kind not in outputs.KINDS]
    if unknown or not options.save:
        raise InputError(
            f"--save is a list of {', '.join(outputs.KINDS)}; got "
            f"'{','.join(options.save)}'"
        )
    for name in ("batch_size", "ply_stride"):
        if getattr(options, name) < 1:
            raise InputError(
                f"--{name} must be at least 1, got {getattr(options, name)}"
            )
    if options.limit < 0:
        raise InputError(f"--limit must be at least 1, or 0: all; got {options.limit}")
    if options.max_depth is not None and not options.max_depth > 0:
        raise InputError(
            f"--max_depth must be positive, in metres; got {options.max_depth:g}"
        )
    camera = cameras.reader(options.intrinsics, options.fov)
    if "ply" in options.save and camera is None:
        raise InputError(
            "--save=ply needs the camera: give --intrinsics=fx,fy,cx,cy (pixels), "
            "--intrinsics=FILE.json or --fov=DEGREES (horizontal)"
        )
    return camera if "ply" in options.save else None


def check_for_server(sources: list[Source], options: Options) -> None:
    """InputError if the sources cannot be files of one archive for KITTI's server."""
    if "kitti" not in options.save:
        return
    videos = [source.path for source in sources if source.is_video]
    if videos:
        raise InputError(f"--save=kitti takes images, not '{videos[0]}'")
    inputs.require_one_each(
        sources,
        key=lambda source: source.stem.rpartition("/")[2],
        what="of one name in other folders, but the zip of --save=kitti has none",
    )
