"""Speeds by a clock of the test's own, and what devices and XLA tell."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from amlr_jax.train.meter import Meter, host_memory, peak_flops, step_flops


class Clock:
    now = 100.0

    def __call__(self):
        return self.now

    def go(self, seconds):
        self.now += seconds


def device(kind="NVIDIA H200", stats=None):
    return SimpleNamespace(device_kind=kind, memory_stats=lambda: stats)


def meter(clock, *, devices=None, **options):
    devices = devices or [device()]
    return Meter(batch_size=8, devices=devices, clock=clock, **options)


def rounds(measured, clock, count, *, wait=0.125, work=0.375):
    for _ in range(count):
        with measured.waiting():
            clock.go(wait)
        clock.go(work)
        measured.step()


def test_nothing_is_known_before_the_second_step():
    clock = Clock()
    measured = meter(clock)
    assert "steps_per_second" not in measured.values()
    rounds(measured, clock, 1, work=60.0)
    assert "steps_per_second" not in measured.values()
    assert measured.note() == ""


def test_speeds_without_the_first_round_which_compiles():
    clock = Clock()
    measured = meter(clock, flops=1e14)
    rounds(measured, clock, 1, wait=5.0, work=60.0)
    rounds(measured, clock, 4)
    values = measured.values()
    assert values["steps_per_second"] == 2.0
    assert values["images_per_second"] == 16.0
    assert values["data_wait"] == 0.25
    assert values["mfu"] == pytest.approx(2e14 / 494.7e12)
    assert measured.note() == "data 25%, MFU 40%"


def test_the_window_forgets():
    clock = Clock()
    measured = meter(clock, window=3)
    rounds(measured, clock, 20, wait=3.0, work=1.0)
    rounds(measured, clock, 4)
    assert measured.values()["steps_per_second"] == 2.0
    assert measured.values()["data_wait"] == 0.25


def test_a_pause_counts_for_no_speed():
    clock = Clock()
    measured = meter(clock)
    rounds(measured, clock, 3)
    with measured.paused():
        clock.go(1000.0)
    rounds(measured, clock, 2)
    assert measured.values()["steps_per_second"] == 2.0
    assert measured.values()["data_wait"] == 0.25


def test_skipped_steps_add_up():
    measured = meter(Clock())
    measured.skip()
    measured.skip(2)
    assert measured.values()["skipped_steps"] == 3


def test_due_at_times():
    clock = Clock()
    measured = meter(clock, every=10.0)
    found = []
    for _ in range(25):
        clock.go(1.0)
        found.append(measured.due())
    assert [i for i, due in enumerate(found, 1) if due] == [10, 20]


def test_memory_is_that_of_the_fullest_device():
    stats = [
        {"bytes_in_use": 2**30, "peak_bytes_in_use": 3 * 2**30},
        {"bytes_in_use": 2**31, "peak_bytes_in_use": 2**31},
    ]
    values = meter(Clock(), devices=[device(stats=s) for s in stats]).values()
    assert values["memory_gib"] == 2.0
    assert values["memory_peak_gib"] == 3.0


def test_a_cpu_has_host_memory_alone():
    values = Meter(batch_size=1, flops=1.0).values()
    assert not {"memory_gib", "mfu"} & values.keys()
    array = bytearray(2**27)
    assert 2**27 < host_memory() < 2**37
    assert values["host_memory_gib"] > 0.01
    del array


@pytest.mark.parametrize(
    ("kind", "bfloat16", "float32"),
    [
        ("NVIDIA A100-SXM4-80GB", 312, 156),
        ("NVIDIA A100 80GB PCIe", 312, 156),
        ("NVIDIA H100 80GB HBM3", 989.4, 494.7),
        ("NVIDIA H100 PCIe", 756, 378),
        ("NVIDIA H200", 989.4, 494.7),
        ("NVIDIA L4", 121, 60),
        ("NVIDIA L40S", 362, 183),
        ("Tesla V100-SXM2-16GB", None, 15.7),
        ("Tesla T4", None, 8.1),
        ("NVIDIA GeForce RTX 4090", 165.2, 82.6),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None, None),
        ("NVIDIA H200 MIG 1g.18gb", None, None),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", None, None),
        ("cpu", None, None),
    ],
)
def test_peaks(kind, bfloat16, float32):
    for dtype, tera in (("bfloat16", bfloat16), ("float32", float32)):
        assert peak_flops(kind, dtype) == (tera and 1e12 * tera)


def test_flops_of_a_compiled_step():
    def product(x, y):
        return x @ y

    shapes = jnp.zeros((32, 64)), jnp.zeros((64, 16))
    compiled = jax.jit(product).lower(*shapes).compile()
    assert step_flops(compiled) == 2 * 32 * 64 * 16
    assert step_flops(compiled, repeats=3) == 3 * 2 * 32 * 64 * 16


def test_flops_of_a_loop_need_its_repeats():
    def fourfold(x):
        return jax.lax.scan(lambda c, _: (c @ c, None), x, None, length=4)[0]

    compiled = jax.jit(fourfold).lower(jnp.zeros((64, 64))).compile()
    want = 4 * 2 * 64**3
    assert step_flops(compiled, repeats=4) == pytest.approx(want, rel=1e-3)


@pytest.mark.parametrize("analysis", [None, [], {}, {"flops": -1.0}])
def test_flops_that_nobody_tells(analysis):
    silent = SimpleNamespace(cost_analysis=lambda: analysis)
    assert step_flops(silent) is None
