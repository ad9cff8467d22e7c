"""The error over five frames that papers on video depth report for KITTI odometry."""

import numpy as np

from amlr_jax.odometry.poses import checked

FRAMES = 5


def snippet_errors(
    truth: np.ndarray, predicted: np.ndarray, *, frames: int = FRAMES
) -> np.ndarray:
    """One error a frame but the last, of the snippet of `frames` that starts there.

        x_0 = 0,  x_k = translation of S_i S_(i+1) ... S_(i+k-1)
        s   = sum_k x_k . y_k / sum_k y_k . y_k          x true, y predicted
        e_i = sqrt(sum_k |s y_k - x_k|^2) / n            n places, x_0 among them

    S are the steps next_from_previous, chained as they are: x_k is no place of the
    camera, but the same is done to both. e_i is a root of a sum over n, and no root
    mean square. The last snippets are shorter: of 4, 3 and 2 frames. All of it is as
    monodepth2 measures (Godard et al., ICCV 2019), after Zhou et al. (CVPR 2017).
    A prediction that stands has s = 0, where theirs is NaN.

    Args:
      truth, predicted: steps, [N - 1, 4, 4]; metres, and any unit.
      frames: of a whole snippet.

    Returns:
      [N - 1] in metres; papers give its mean and standard deviation.
    """
    truth, predicted = checked("truth", truth), checked("predicted", predicted)
    if len(truth) != len(predicted):
        raise ValueError(
            f"`predicted` must have the {len(truth)} steps of `truth`, got "
            f"{len(predicted)}."
        )
    if frames < 2:
        raise ValueError(f"`frames` must be at least 2, got {frames}.")
    return np.array(
        [
            _error(
                *(_places(s[start : start + frames - 1]) for s in (truth, predicted))
            )
            for start in range(len(truth))
        ]
    )


def _places(steps: np.ndarray) -> np.ndarray:
    pose, places = np.eye(4), [np.zeros(3)]
    for step in steps:
        pose = pose @ step
        places.append(pose[:3, 3])
    return np.stack(places)


def _error(x: np.ndarray, y: np.ndarray) -> float:
    square = np.sum(y * y)
    scale = np.sum(x * y) / square if square > 0 else 0.0
    return float(np.sqrt(np.sum((scale * y - x) ** 2)) / len(x))
