"""The tables of Cao, Luo & Li, "Toward Better SSIM Loss", on KITTI and on the street.

    ./launch/ablation.sh --study=configs/ablations/better_ssim.py:table1 \
        --output=runs/table1 --config.data.root=/data/kitti \
        --config.init_from=converted/resnet18

Variants:
  table1  SSIM_m: exponents of luminance, contrast and structure
  table2  SSIM_a: weights of absolute error, luminance, contrast and structure
  table3  nearest upsampling and sub-pixel convolution, for three sets of weights
  table4  the side outputs of both upsamplings
  street  five losses on the embedded street, for two CPU cores in about an hour. Its
          values compare the losses at that size only, not on real streets.
The paper trained each row once, with seed 1234: give --seeds=1234 for its seed.
"""

from amlr_jax import recipes
from amlr_jax.ablation.study import Study, StudyRow, StudyRun, published
from amlr_jax.evaluate.published import RESOLUTIONS, values_of

CONFIG = "configs/kitti_selfsup.py"
MONODEPTH2 = values_of("kitti_eigen_697", "Monodepth2, mono 640x192")
BASELINE = values_of("kitti_eigen_697", "Better SSIM, baseline")

# alpha, beta, gamma (luminance, contrast, structure) and the published row.
TABLE_1 = {
    (2, 1, 1): (0.115, 0.860, 4.895, 0.193, 0.871, 0.957, 0.981),
    (3, 1, 1): (0.116, 0.861, 4.880, 0.193, 0.872, 0.958, 0.981),
    (1, 2, 1): (0.115, 0.835, 4.823, 0.193, 0.871, 0.958, 0.982),
    (1, 3, 1): (0.116, 0.856, 4.894, 0.194, 0.871, 0.957, 0.981),
    (1, 1, 2): (0.114, 0.836, 4.862, 0.193, 0.873, 0.958, 0.981),
    (1, 1, 3): (0.115, 0.868, 4.830, 0.192, 0.874, 0.959, 0.981),
    (2, 2, 2): (0.115, 0.838, 4.834, 0.192, 0.874, 0.958, 0.981),
    (3, 3, 3): (0.115, 0.829, 4.826, 0.192, 0.871, 0.958, 0.981),
}
# w_1, w_l, w_c, w_s in tenths and the published row.
TABLE_2 = {
    (3, 4, 4, 5): (0.116, 0.836, 4.856, 0.194, 0.871, 0.958, 0.981),
    (3, 4, 4, 6): (0.115, 0.842, 4.879, 0.193, 0.871, 0.958, 0.982),
    (3, 4, 4, 7): (0.116, 0.834, 4.833, 0.193, 0.871, 0.958, 0.981),
    (3, 4, 5, 5): (0.116, 0.850, 4.871, 0.194, 0.870, 0.958, 0.981),
    (3, 4, 5, 6): (0.115, 0.828, 4.859, 0.193, 0.871, 0.958, 0.981),
    (3, 4, 5, 7): (0.115, 0.832, 4.828, 0.192, 0.873, 0.959, 0.981),
    (3, 5, 5, 5): (0.115, 0.816, 4.846, 0.194, 0.871, 0.958, 0.981),
    (3, 5, 5, 6): (0.114, 0.816, 4.823, 0.191, 0.873, 0.959, 0.982),
    (3, 5, 5, 7): (0.115, 0.849, 4.858, 0.193, 0.872, 0.958, 0.981),
    (3, 6, 5, 5): (0.114, 0.819, 4.834, 0.192, 0.872, 0.958, 0.982),
    (3, 6, 5, 6): (0.115, 0.831, 4.854, 0.193, 0.872, 0.958, 0.981),
    (3, 6, 6, 5): (0.117, 0.837, 4.898, 0.195, 0.867, 0.957, 0.981),
    (3, 6, 6, 6): (0.116, 0.830, 4.854, 0.194, 0.870, 0.958, 0.981),
    (4, 4, 4, 6): (0.116, 0.865, 4.886, 0.194, 0.872, 0.957, 0.981),
    (4, 4, 5, 6): (0.116, 0.842, 4.840, 0.193, 0.872, 0.958, 0.981),
    (4, 4, 5, 7): (0.114, 0.826, 4.822, 0.192, 0.872, 0.959, 0.981),
    (4, 5, 5, 5): (0.115, 0.836, 4.853, 0.194, 0.871, 0.957, 0.981),
    (4, 5, 5, 6): (0.115, 0.817, 4.846, 0.193, 0.871, 0.957, 0.981),
    (4, 5, 5, 7): tuple(RESOLUTIONS[0].metrics.values()),
    (4, 6, 5, 5): (0.116, 0.819, 4.836, 0.192, 0.873, 0.958, 0.981),
    (4, 5, 6, 5): (0.117, 0.843, 4.856, 0.194, 0.870, 0.957, 0.981),
}
# The same with sub-pixel convolution.
TABLE_3 = {
    (3, 5, 5, 6): (0.116, 0.776, 4.811, 0.190, 0.862, 0.957, 0.983),
    (4, 4, 5, 7): (0.116, 0.784, 4.793, 0.189, 0.863, 0.957, 0.983),
    (4, 5, 5, 7): tuple(RESOLUTIONS[1].metrics.values()),
}
WEIGHTS = ("mae", "luminance", "contrast", "structure")


def get_study(variant: str = "table1") -> Study:
    """The study of a variant."""
    return recipes.pick(VARIANTS, variant, file="configs/ablations/better_ssim.py")()


def _monodepth2(cells: int) -> list[StudyRow]:
    """The top rows of Tables 1 and 2; the second is the baseline, so it is first."""
    reference = StudyRun("monodepth2", f"{CONFIG}:monodepth2")
    baseline = StudyRun("baseline", f"{CONFIG}:baseline")
    blank = [""] * (cells - 1)
    return [
        StudyRow(("Baseline", *blank), baseline, BASELINE),
        StudyRow(("Monodepth2", *blank), reference, MONODEPTH2),
    ]


def _table1() -> Study:
    rows = [
        StudyRow(tuple(map(str, powers)), _exponents(*powers), published(*printed))
        for powers, printed in TABLE_1.items()
    ]
    title = "Exponents of SSIM_m, Table 1"
    return Study(title, ("alpha", "beta", "gamma"), _monodepth2(3) + rows)


def _exponents(alpha: int, beta: int, gamma: int) -> StudyRun:
    values = {"alpha": alpha, "beta": beta, "gamma": gamma}
    return StudyRun(
        f"ssim_m_{alpha}{beta}{gamma}",
        f"{CONFIG}:baseline",
        {f"selfsup.{name}": float(value) for name, value in values.items()},
    )


def _table2() -> Study:
    rows = [
        StudyRow(_tenths(weights), _weights(weights), published(*printed))
        for weights, printed in TABLE_2.items()
    ]
    title = "Weights of SSIM_a and MAE, Table 2"
    return Study(title, ("w_1", "w_l", "w_c", "w_s"), _monodepth2(4) + rows)


def _tenths(weights) -> tuple[str, ...]:
    return tuple(str(weight / 10) for weight in weights)


def _weights(weights, *, variant: str = "ssim_a") -> StudyRun:
    pairs = zip(WEIGHTS, weights, strict=True)
    return StudyRun(
        f"{variant}_{''.join(map(str, weights))}",
        f"{CONFIG}:{variant}",
        {f"rebalance.weights.{name}": weight / 10 for name, weight in pairs},
    )


def _table3() -> Study:
    rows = []
    for weights, printed in TABLE_3.items():
        label, nearest = _tenths(weights), published(*TABLE_2[weights])
        subpixel = _weights(weights, variant="ssc")
        rows.append(StudyRow((*label, "nearest"), _weights(weights), nearest))
        rows.append(StudyRow((*label, "sub-pixel"), subpixel, published(*printed)))
    factors = ("w_1", "w_l", "w_c", "w_s", "upsampling")
    return Study("Upsampling, Table 3", factors, rows)


def _table4() -> Study:
    nearest, subpixel = (StudyRun(v, f"{CONFIG}:{v}") for v in ("ssim_a", "ssc"))
    rows = []
    for place, printed in enumerate(RESOLUTIONS):
        label = (printed.resolution, "yes" if printed.bilinear else "no")
        run = nearest if printed.bilinear else subpixel
        rows.append(StudyRow(label, run, printed.metrics, head=place // 2))
    return Study("Side outputs, Table 4", ("resolution", "bilinear"), rows)


def _street() -> Study:
    file = "configs/demo_selfsup.py"
    labels = {
        "monodepth2": "monodepth2",
        "baseline": "SSIM_m 1 2 1",
        "ssim_a": "SSIM_a .4 .5 .5 .7",
        "ssc": "SSIM_a, sub-pixel",
        "amlr": "SSIM_a, log_amlr",
    }
    exponents = {"selfsup.beta": 2.0}
    common = {"model.name": "five_level", "steps": 400, "optimizer.warmup": 50}
    rows = [
        StudyRow(
            (label,),
            StudyRun(
                variant if variant != "baseline" else "ssim_m_121",
                f"{file}:{variant}",
                common | (exponents if variant == "baseline" else {}),
            ),
        )
        for variant, label in labels.items()
    ]
    note = "Embedded street, five-level network, scaled by the median of each image."
    return Study("Photometric losses on the street", ("loss",), rows, note=note)


VARIANTS = {
    "table1": _table1,
    "table2": _table2,
    "table3": _table3,
    "table4": _table4,
    "street": _street,
}
