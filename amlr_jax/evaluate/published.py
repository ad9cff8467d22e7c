"""Published values, and which of them are comparable with a protocol.

Facts copied from the papers' tables by hand. `test` is the test mode of the row, "?"
where its source does not give it.
"""

from typing import NamedTuple

from amlr_jax.evaluate.protocols import PRESETS, Protocol

BOTH = "shifted_flip"


class Row(NamedTuple):
    """One row of a published table."""

    method: str
    source: str
    test: str
    metrics: dict[str, float]


class SideRow(NamedTuple):
    """One row of Table 4 of "Better SSIM": a side output."""

    resolution: str
    bilinear: bool  # False: sub-pixel convolution
    metrics: dict[str, float]


_SEVEN = ("abs_rel", "sq_rel", "rmse", "rmse_log", "d1", "d2", "d3")
_EIGHT = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "d1", "d2", "d3")
_NYU = ("abs_rel", "rmse", "log10", "d1", "d2", "d3")


def _row(method: str, source: str, test: str, names: tuple, *values: float) -> Row:
    return Row(method, source, test, dict(zip(names, values, strict=True)))


_AMLR = "Yu & Heo 2023, Table"
_SSIM = "Better SSIM, Table"
_MIM = "MIM-Depth's README"
_SIDES = (
    ("1/2", True, 0.115, 0.823, 4.828, 0.193, 0.873, 0.958, 0.982),
    ("1/2", False, 0.115, 0.770, 4.813, 0.188, 0.863, 0.957, 0.983),
    ("1/4", True, 0.115, 0.818, 4.833, 0.192, 0.870, 0.958, 0.982),
    ("1/4", False, 0.115, 0.770, 4.812, 0.188, 0.863, 0.957, 0.983),
    ("1/8", True, 0.119, 0.833, 4.925, 0.195, 0.862, 0.956, 0.982),
    ("1/8", False, 0.115, 0.771, 4.820, 0.188, 0.863, 0.957, 0.983),
    ("1/16", True, 0.130, 0.943, 5.203, 0.203, 0.844, 0.952, 0.981),
    ("1/16", False, 0.116, 0.780, 4.844, 0.189, 0.862, 0.957, 0.983),
)
RESOLUTIONS = tuple(
    SideRow(*row[:2], dict(zip(_SEVEN, row[2:], strict=True))) for row in _SIDES
)
# The scan of AMLR's Table 2 is not readable beyond d1 of "GLPDepth + AMLR".
ROWS = {
    "kitti_eigen": (
        _row("AMLR", f"{_AMLR} 1", "none", _EIGHT,
             0.053, 0.153, 2.065, 0.081, 0.023, 0.973, 0.997, 0.999),
        _row("AMLR", f"{_AMLR}s 1, 2, 4", BOTH, _EIGHT,
             0.049, 0.137, 1.971, 0.074, 0.021, 0.978, 0.998, 0.999),
        _row("SILog alone", f"{_AMLR} 4", BOTH, _EIGHT,
             0.050, 0.139, 1.981, 0.075, 0.022, 0.978, 0.998, 0.999),
        _row("Lee & Kim's rule", f"{_AMLR} 4", BOTH, _EIGHT,
             0.049, 0.139, 2.000, 0.075, 0.022, 0.978, 0.998, 0.999),
        _row("GLPDepth + AMLR", f"{_AMLR} 2", "?", _SEVEN[:5],
             0.054, 0.148, 2.069, 0.080, 0.975),
        _row("MIM-Depth large", f"{_AMLR} 2", BOTH, _SEVEN,
             0.050, 0.139, 1.966, 0.075, 0.977, 0.998, 1.000),
        _row("MIM-Depth base", _MIM, BOTH, ("abs_rel", "rmse", "rmse_log", "d1", "d2",
             "d3"), 0.052, 2.050, 0.078, 0.976, 0.998, 0.999),
        _row("GLPDepth", f"{_AMLR} 2", "?", _SEVEN,
             0.057, 0.187, 2.297, 0.086, 0.967, 0.996, 0.999),
    ),
    "kitti_eigen_697": (
        _row("Monodepth2, mono 640x192", f"{_SSIM} 1", "none", _SEVEN,
             0.115, 0.903, 4.863, 0.193, 0.877, 0.959, 0.981),
        _row("Monodepth2, from scratch", "monodepth2's README", "none",
             ("abs_rel", "d1"), 0.132, 0.845),
        _row("Better SSIM, baseline", f"{_SSIM} 1", "none", _SEVEN,
             0.118, 0.868, 4.856, 0.194, 0.869, 0.957, 0.981),
        Row("SSIM_a .4 .5 .5 .7", f"{_SSIM} 2", "none", RESOLUTIONS[0].metrics),
        Row("SSIM_a, sub-pixel", f"{_SSIM} 5", "none", RESOLUTIONS[1].metrics),
        _row("GVO", f"{_SSIM} 5", "none", _SEVEN,
             0.118, 0.787, 4.488, 0.183, 0.870, 0.962, 0.985),
        _row("GVO + SSIM_a, sub-pixel", f"{_SSIM} 5", "none", _SEVEN,
             0.115, 0.747, 4.416, 0.181, 0.868, 0.964, 0.985),
    ),
    # MIM-Depth's README gives log10 as abs_rel here (its issue 8).
    "nyu": (
        _row("AMLR", f"{_AMLR} 3", BOTH, _NYU,
             0.087, 0.300, 0.037, 0.935, 0.991, 0.998),
        _row("MIM-Depth large", f"{_AMLR} 3", BOTH, _NYU,
             0.083, 0.287, 0.035, 0.949, 0.994, 0.999),
        _row("MIM-Depth base", _MIM, BOTH, ("rmse", "rmse_log", "d1", "d2", "d3"),
             0.304, 0.109, 0.935, 0.991, 0.998),
        _row("GLPDepth", f"{_AMLR} 3", "?", _NYU,
             0.098, 0.344, 0.042, 0.915, 0.988, 0.997),
    ),
}  # fmt: skip


def values_of(protocol: str, method: str, *, test: str | None = None) -> dict:
    """The metrics of the row of `ROWS` with this method, and test mode if given."""
    (found,) = (
        row.metrics
        for row in ROWS[protocol]
        if row.method == method and test in (None, row.test)
    )
    return found


def rows_beside(protocol: Protocol) -> tuple[tuple[Row, ...], str]:
    """The published rows of the same frames and protocol; the reason if there is none.

    The test mode may differ; each row names the one it used.
    """
    rows = ROWS.get(protocol.name, ())
    return _beside(rows, protocol, _differences(protocol), what="row")


def resolutions_beside(protocol: Protocol) -> tuple[tuple[SideRow, ...], str]:
    """As `rows_beside`, for the rows of Table 4; the test mode must be equal, too."""
    rows = RESOLUTIONS if protocol.name == "kitti_eigen_697" else ()
    differs = _differences(protocol)
    if protocol.test_mode != "none":
        differs.append(f"test mode {protocol.test_mode}")
    return _beside(rows, protocol, differs, what="resolution")


def _beside(
    rows: tuple, protocol: Protocol, differs: list[str], *, what: str
) -> tuple[tuple, str]:
    if not rows:
        return (), f"no published {what} of {protocol.name} is known"
    if differs:
        return (), f"published rows have other settings; here {', '.join(differs)}"
    return rows, ""


def _differences(protocol: Protocol) -> list[str]:
    preset = PRESETS[protocol.name]
    names = ["split", "crop", "min_depth", "max_depth", "kb_crop", "cap_target"]
    if preset.median_scaling is not None:
        names.append("median_scaling")
    ours, theirs = protocol._asdict(), preset._asdict()
    ours["split"] = protocol.split.removeprefix("list-")  # only a training list
    differing = [f"{name} {ours[name]}" for name in names if ours[name] != theirs[name]]
    if protocol.choices.align:
        differing.append(f"align {protocol.choices.align}")
    if protocol.split == "folder" and preset.split == "eigen_697":
        differing.append("annotated depth in place of lidar scans")
    if protocol.dataset != preset.data[0]:  # the others are not the papers' frames
        differing.insert(0, protocol.dataset)
    return differing
