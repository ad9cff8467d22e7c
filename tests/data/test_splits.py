"""The Eigen split is the published one."""

import json

from amlr_jax.data import splits


def test_published_counts():
    train, test = splits.kitti_split("eigen")
    assert sum(map(len, train.values())) == 23158
    assert sum(map(len, test.values())) == 652
    assert sum(map(len, splits.eigen_test(with_depth=False).values())) == 697
    assert (len(train), len(test)) == (33, 28)
    assert not set(train) & set(test)


def test_equals_the_published_sets(real_data):
    rule = json.loads((real_data / "facts" / "eigen_train_rule.json").read_text())
    want = {
        name.split("/")[1]: list(range(5, n - 5))
        for name, n in rule["n_frames"].items()
    }
    assert splits.eigen_train() == want
    facts = json.loads((real_data / "facts" / "eigen_test_by_drive.json").read_text())
    listed = {name.split("/")[1]: sorted(f) for name, f in facts["test"].items()}
    assert splits.eigen_test(with_depth=False) == listed
    for name, lost in facts["no_gt"].items():
        drive = name.split("/")[1]
        listed[drive] = sorted(set(listed[drive]) - set(lost))
    assert splits.eigen_test() == listed


def test_697_are_the_652_and_those_without_annotation():
    train, test = splits.kitti_split("eigen_697")
    annotated = splits.eigen_test()
    assert train == splits.eigen_train()
    assert sum(map(len, test.values())) == 697
    assert all(set(annotated[drive]) <= set(test[drive]) for drive in annotated)
