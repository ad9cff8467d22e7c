"""Errors of trajectories against loops written from their definitions, on any drive."""

import cv2
import numpy as np
import pytest

from amlr_jax.data.kitti.odometry import read_poses
from amlr_jax.odometry import trajectories
from tests.odometry.toy import curve, disturbed, pose

LENGTH = 260  # frames and metres: segments of 100 and 200 m


@pytest.fixture(scope="module")
def truth():
    return curve(LENGTH)


@pytest.fixture(scope="module")
def steps(truth):
    return disturbed(truth, scale=0.04)


# ------------------------------------------------------------------ independent loops


def snippet_loop(truth, steps):
    """The mean error over five frames, a start at a time."""
    errors = []
    for start in range(len(truth) - 1):
        x, y = [np.zeros(3)], [np.zeros(3)]
        true_chain, chain = np.eye(4), np.eye(4)
        for k in range(start, min(start + 4, len(truth) - 1)):
            true_chain = true_chain @ np.linalg.inv(truth[k + 1]) @ truth[k]
            chain = chain @ steps[k]
            x.append(true_chain[:3, 3])
            y.append(chain[:3, 3])
        x, y = np.stack(x), np.stack(y)
        scale = np.linalg.lstsq(y.reshape(-1, 1), x.ravel(), rcond=None)[0][0]
        errors.append(np.sqrt(((scale * y - x) ** 2).sum()) / len(x))
    return errors


def drift_loop(truth, aligned):
    """KITTI's mean drift, a segment at a time; the angle by cv2."""
    pairs = zip(truth, truth[1:], strict=False)
    ways = [np.linalg.norm(after[:3, 3] - before[:3, 3]) for before, after in pairs]
    rows = []
    for first in range(0, len(truth), 10):
        for metres in range(100, 900, 100):
            way, last = 0.0, first
            while way <= metres and last < len(ways):
                way += ways[last]
                last += 1
            if way <= metres:
                continue
            moves = [np.linalg.inv(p[first]) @ p[last] for p in (truth, aligned)]
            wrong = np.linalg.inv(moves[1]) @ moves[0]
            angle = np.linalg.norm(cv2.Rodrigues(wrong[:3, :3])[0])
            away = np.linalg.norm(wrong[:3, 3])
            rows.append((100 * away / metres, 100 * np.degrees(angle) / metres))
    return np.mean(rows, axis=0), len(rows)


def test_snippets(truth, steps):
    found = trajectories.snippet_errors(trajectories.steps_of(truth), steps)
    np.testing.assert_allclose(found, snippet_loop(truth, steps), rtol=1e-9)
    assert len(found) == LENGTH - 1 and found.min() > 0


def test_a_snippet_by_hand():
    """Ahead, then aside: no scale fits both. sqrt(sum of squares) / positions."""
    truth = np.stack([pose(translation=(0, 0, -1)), pose(translation=(0, 0, -1))])
    wrong = np.stack([pose(translation=(0, 0, -3)), pose(translation=(-3, 0, 0))])
    first, second = trajectories.snippet_errors(truth, wrong)
    scale = (1 * 3 + 2 * 3) / (9 + 9 + 9)  # x.y / y.y over the places 1 and 2
    places = [(0, 3 * scale - 1), (3 * scale, 3 * scale - 2)]
    assert first == pytest.approx(np.sqrt(np.sum(np.square(places))) / 3)
    assert second == pytest.approx(1 / 2)  # at a right angle: the best scale is 0


def test_drift(truth, steps):
    aligned = trajectories.align(truth, trajectories.chain(steps))
    found = trajectories.drift(*aligned[:2])
    (metres, degrees), count = drift_loop(*aligned[:2])
    assert found["t_err_percent"] == pytest.approx(metres, rel=1e-9)
    assert found["r_err_deg_per_100m"] == pytest.approx(degrees, rel=1e-6)
    assert (
        found["segments"]
        == count
        == sum(part["segments"] for part in found["by_length_m"].values())
    )
    assert list(found["by_length_m"]) == ["100", "200"]


def test_drift_of_a_known_error():
    """A straight drive 1 % too long: 1 % of translation and no rotation."""
    truth = trajectories.chain(trajectories.straight(150))
    longer = truth.copy()
    longer[:, :3, 3] *= 1.01
    found = trajectories.drift(truth, longer)
    # The first frame beyond 100 m is at 101.
    assert found["t_err_percent"] == pytest.approx(1.01)
    assert found["r_err_deg_per_100m"] == 0.0
    assert found["segments"] == 5  # from frames 0, 10, ..., 40; from 50 none is beyond


def test_umeyama_undoes_a_similarity():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(30, 3))
    turn = pose((0.4, -2.0, 1.1))[:3, :3]
    target = 3.5 * points @ turn.T + (1, -2, 5)
    scale, rotation, shift = trajectories.umeyama(points, target, scale=True)
    assert scale == pytest.approx(3.5)
    np.testing.assert_allclose(rotation, turn, atol=1e-12)
    np.testing.assert_allclose(shift, (1, -2, 5), atol=1e-12)
    _, mirrored, _ = trajectories.umeyama(points, target * (1, 1, -1), scale=True)
    assert np.linalg.det(mirrored) == pytest.approx(1)


@pytest.mark.parametrize("how", trajectories.ALIGNMENTS)
def test_no_alignment_nearby_is_better(truth, steps, how):
    """Each is a least squares fit in what it may change."""
    best = trajectories.align(truth, trajectories.chain(steps), how)
    error = trajectories.ate(*best[:2])
    places = best.predicted[:, :3, 3]
    changes = {
        "7dof": [0.999 * places, 1.001 * places],
        "6dof": [],
        "scale": [0.999 * places, 1.001 * places],
        "none": [],
    }[how]
    if how in ("7dof", "6dof"):
        turns = [pose(v)[:3, :3] for v in 0.001 * np.vstack([np.eye(3), -np.eye(3)])]
        changes += [places + (0.01, 0, 0), places - (0, 0, 0.01)]
        changes += [places @ turn.T for turn in turns]
    for moved in changes:
        other = best.predicted.copy()
        other[:, :3, 3] = moved
        assert trajectories.ate(best.truth, other) > error
    if how in ("6dof", "none"):
        assert best.scale == 1.0


# ------------------------------------------------------------------ invariances


NAMES = ("ate_5_frames_mean_m", "ate_5_frames_std_m", "ate_rmse_m", "rpe_m", "rpe_deg")


def measured(*arguments):
    return trajectories.measure(*arguments).values


def errors(values):
    return [values[name] for name in (*NAMES, "t_err_percent")]


def drift_means(truth, aligned):
    return [*trajectories.drift(truth, aligned).values()][:2]


def test_the_truth_has_no_error(truth):
    for how in trajectories.ALIGNMENTS:
        found = measured(truth, trajectories.steps_of(truth), how)
        np.testing.assert_allclose(errors(found), 0, atol=1e-5)
        assert found["r_err_deg_per_100m"] == pytest.approx(0, abs=1e-4)
        assert found["scale"] == pytest.approx(1)


def test_scale_of_the_prediction_and_place_of_the_truth_do_not_matter(truth, steps):
    plain = measured(truth, steps)
    larger = steps.copy()
    larger[:, :3, 3] *= 250
    elsewhere = pose((1, 2, 3), (10, 20, 30)) @ truth
    found = measured(elsewhere, larger)
    np.testing.assert_allclose(errors(found), errors(plain), rtol=1e-7)
    assert found["scale"] == pytest.approx(plain["scale"] / 250)


def test_metric_alignments_see_the_scale(truth, steps):
    smaller = steps.copy()
    smaller[:, :3, 3] /= 0.04  # back to metres
    right = measured(truth, smaller, "6dof")
    assert right["scale"] == 1.0
    wrong = measured(truth, steps, "6dof")
    assert wrong["ate_rmse_m"] > 10 * right["ate_rmse_m"]
    # 4 % of the way: the drift says that 96 % are missing, about.
    assert wrong["t_err_percent"] > 80


def test_cameras_turn_along_with_their_places(truth):
    """A rigid motion of the whole trajectory does not change steps and drift."""
    predicted = trajectories.chain(disturbed(truth, angle=0.01))
    both = [trajectories.align(truth, predicted, how) for how in ("none", "6dof")]
    assert np.abs(both[0].predicted - both[1].predicted).max() > 1.0
    for error in (trajectories.relative_errors, drift_means):
        plain, turned = (error(*aligned[:2])[:2] for aligned in both)
        np.testing.assert_allclose(turned, plain, rtol=1e-6)


def test_chain_and_steps_are_inverse(truth):
    np.testing.assert_allclose(
        trajectories.chain(trajectories.steps_of(truth)), truth, atol=1e-9
    )
    moved = pose((0.3, 0.1, -0.2), (4, 5, 6)) @ truth
    np.testing.assert_allclose(trajectories.from_first(moved), truth, atol=1e-9)
    ahead = trajectories.chain(trajectories.straight(3))
    np.testing.assert_allclose(ahead[:, 2, 3], [0, 1, 2, 3])


def test_pose_of_axis_angle():
    angles = np.array([(0, 0, 0), (1e-9, 0, 0), (0.3, -0.2, 0.9), (0, 3.0, 0)])
    moves = np.arange(12).reshape(4, 3)
    found = trajectories.pose_of(angles, moves)
    for angle, move, one in zip(angles, moves, found, strict=True):
        np.testing.assert_allclose(one, pose(angle, move), atol=1e-12)


# ------------------------------------------------------------------ degenerate drives


def finite(values):
    return np.isfinite(errors(values)).all()


def test_a_standing_car_has_no_scale_and_says_so():
    rng = np.random.default_rng(0)
    still = np.tile(np.eye(4), (30, 1, 1))
    still[:, :3, 3] = rng.normal(0, 0.05, (30, 3))
    found = trajectories.measure(still, trajectories.straight(29))
    assert found.aligned is None and found.values.keys() == set(NAMES[:2])
    assert np.isfinite([*found.values.values()]).all()
    assert "the camera stands" in found.notes[0]


def test_a_prediction_of_nothing(truth):
    nothing = np.tile(np.eye(4), (LENGTH - 1, 1, 1))
    found, _, notes = trajectories.measure(truth, nothing)
    assert finite(found) and found["scale"] == 1.0
    assert "does not move" in notes[0]
    # Everything that was driven is missing.
    assert found["t_err_percent"] == pytest.approx(100, rel=0.2)


def test_a_straight_drive_and_a_short_one():
    truth = trajectories.chain(trajectories.straight(30))
    found = measured(truth, disturbed(truth))
    assert found.keys() == {*NAMES, "scale"}
    assert np.isfinite([*found.values()]).all()
    two = measured(truth[:2], disturbed(truth[:2]))
    assert np.isfinite([*two.values()]).all()


# ------------------------------------------------------------------ KITTI's own poses

# What a car that drives straight on gets, by monodepth2's and GVO's evaluation code:
# mean and deviation over five frames, t_err, r_err, ATE.
STRAIGHT_ON = {
    9: (0.0293540, 0.0131815, 68.50860, 24.95400, 210.9320),
    10: (0.0231047, 0.0122816, 44.92599, 22.54365, 85.94903),
}


@pytest.mark.parametrize("number", STRAIGHT_ON)
def test_real_sequences(real_data, number):
    truth = read_poses(real_data / f"odometry/poses/{number:02d}.txt")
    steps = trajectories.straight(len(truth) - 1)
    found = measured(truth, steps)
    drift = found["t_err_percent"], found["r_err_deg_per_100m"]
    got = (*(found[name] for name in NAMES[:2]), *drift, found["ate_rmse_m"])
    np.testing.assert_allclose(got, STRAIGHT_ON[number], rtol=3e-6)
    (metres, degrees), count = drift_loop(
        *trajectories.align(truth, trajectories.chain(steps))[:2]
    )
    assert drift[0] == pytest.approx(metres, rel=1e-9)
    # Their rotations are printed with 6 digits; cv2 makes them orthonormal first.
    assert drift[1] == pytest.approx(degrees, rel=1e-4)
    assert found["segments"] == count


def test_kitti_poses_are_read_as_they_were_written(tmp_path, truth):
    trajectories.write_kitti(truth, tmp_path / "09.txt")
    np.testing.assert_allclose(read_poses(tmp_path / "09.txt"), truth, rtol=1e-9)
