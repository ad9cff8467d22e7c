"""Two processes, joined as on two hosts, train what one process trains."""

import json

import pytest

from tests import devices

RUN = """
import json, jax
from amlr_jax.runtime import mesh as parallel
from tests.train import sharded, toy

mesh = parallel.make_mesh(fsdp={fsdp})
kept = sharded.parameters(toy.pieces(), mesh, steps=50)
print(json.dumps([jax.process_count(), mesh.size, [x.ravel().tolist() for x in kept]]))
"""


def parameters(count: int, *, on: int, fsdp: int = 1) -> list[float]:
    """After fifty steps in `count` processes of `on` devices, the same in each."""
    program = RUN.format(fsdp=fsdp)
    if count == 1:
        printed = [devices.run(program, devices=on)]
    else:
        printed = devices.run_processes(program, count=count, devices=on)
    found = [json.loads(text.splitlines()[-1]) for text in printed]
    assert all(each == found[0] for each in found)
    assert found[0][:2] == [count, count * on]
    return sum(found[0][2], [])


@pytest.fixture(scope="module")
def alone():
    return parameters(1, on=1)


@pytest.mark.slow
@pytest.mark.parametrize(("on", "fsdp"), [(1, 1), (2, 4)])
def test_two_processes_train_what_one_does(alone, on, fsdp):
    """Data parallel, and with parameters split over both."""
    found = parameters(2, on=on, fsdp=fsdp)
    assert found == pytest.approx(alone, abs=1e-5)


def test_a_process_that_fails_is_told():
    with pytest.raises(AssertionError, match="no such step"):
        devices.run_processes("raise ValueError('no such step')", count=2)
