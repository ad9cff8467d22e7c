"""Table 4 of Yu & Heo (AMLR), with fixed weights and both forms of the rule.

    ./launch/ablation.sh --study=configs/ablations/amlr.py:table4 --output=runs/table4 \
        --config.data.root=/data/kitti --config.init_from=converted/simmim_large \
        --config.eval.test_mode=shifted_flip

Variants:
  table4  KITTI, Swin-v2 large; the paper prints three of these rows
  street  the same on the embedded street, for two CPU cores in about half an hour. Its
          values compare the rules at that size only, not on real streets.
"""

from amlr_jax import recipes
from amlr_jax.ablation.study import Study, StudyRow, StudyRun
from amlr_jax.evaluate.published import BOTH, values_of

METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "d1", "d2", "d3")
PRINTED = {
    name: values_of("kitti_eigen", method, test=BOTH)
    for name, method in (
        ("silog", "SILog alone"),
        ("lee_kim", "Lee & Kim's rule"),
        ("log_amlr", "AMLR"),
    )
}
LABELS = {
    "silog": "silog only",
    "fixed": "fixed .99 .01",
    "lee_kim": "Lee & Kim",
    "amlr": "AMLR as printed",
    "log_amlr": "AMLR in log space",
}


def get_study(variant: str = "table4") -> Study:
    """The study of a variant."""
    return recipes.pick(VARIANTS, variant, file="configs/ablations/amlr.py")()


def _rows(file: str, *, default: str, printed: dict, lee_kim: dict) -> list[StudyRow]:
    """`lee_kim` are overrides for that rule only."""
    rows = []
    for name, label in LABELS.items():
        variant = "silog" if name == "silog" else default
        rule = {} if name == "silog" else {"rebalance.rule": name}
        rule |= lee_kim if name == "lee_kim" else {}
        row = printed.get(name, {})
        rows.append(StudyRow((label,), StudyRun(name, f"{file}:{variant}", rule), row))
    return rows


def _table4() -> Study:
    rows = _rows("configs/kitti.py", default="large", printed=PRINTED, lee_kim={})
    note = "The paper's last row is compared with the log form; its form is not known."
    return Study("Loss rebalancing, AMLR's Table 4", ("losses",), rows, METRICS, note)


def _street() -> Study:
    # Lee & Kim's rule updates 4 times an epoch, here of 96 frames in batches of 4;
    # the demo's rule updates at each step.
    own = {"rebalance.every_k_steps": 6}
    rows = _rows("configs/demo.py", default="log_amlr", printed={}, lee_kim=own)
    return Study("Loss rebalancing on the street", ("losses",), rows, METRICS)


VARIANTS = {"table4": _table4, "street": _street}
