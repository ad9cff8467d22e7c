"""Speeds and shares by a clock of the test's own, and what devices tell."""

from types import SimpleNamespace

import pytest

from amlr_jax.train.meter import OTHER_WORK, Meter, host_memory


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
        with measured.spending("waiting"):
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
    measured = meter(clock)
    measured.flops = 1e14
    rounds(measured, clock, 1, wait=5.0, work=60.0)
    rounds(measured, clock, 4)
    values = measured.values()
    assert values["steps_per_second"] == 2.0
    assert values["images_per_second"] == 16.0
    assert values["data_wait"] == 0.25
    assert values["tflops_per_second"] == 200.0
    assert values["mfu"] == pytest.approx(2e14 / 494.7e12)
    assert measured.note() == "data 25%, MFU 40%"


def test_waiting_counts_while_the_device_is_idle_alone():
    clock = Clock()
    measured = meter(clock)
    for ready in (True, True, False, True):
        with measured.spending("waiting", beside={"total": Pending(ready)}):
            clock.go(0.25)
        clock.go(0.25)
        measured.step()
    assert measured.values()["steps_per_second"] == 2.0
    assert measured.values()["data_wait"] == pytest.approx(2 * 0.25 / 1.5)


class Pending:
    """An array that is ready or not."""

    def __init__(self, ready):
        self.is_ready = lambda: ready


def test_the_window_forgets():
    clock = Clock()
    measured = meter(clock, window=3)
    rounds(measured, clock, 20, wait=3.0, work=1.0)
    rounds(measured, clock, 4)
    assert measured.values()["steps_per_second"] == 2.0
    assert measured.values()["data_wait"] == 0.25


def test_the_share_of_several_devices():
    clock = Clock()
    measured = meter(clock, devices=[device(), device()])
    measured.flops = 1e14
    rounds(measured, clock, 3)
    assert measured.values()["mfu"] == pytest.approx(2e14 / 494.7e12 / 2)


@pytest.mark.parametrize("kind", sorted({*OTHER_WORK} - {"waiting"}))
def test_a_pause_counts_for_no_speed(kind):
    clock = Clock()
    measured = meter(clock)
    rounds(measured, clock, 3)
    with measured.spending(kind):
        clock.go(1000.0)
    rounds(measured, clock, 2)
    assert measured.values()["steps_per_second"] == 2.0
    assert measured.values()["data_wait"] == 0.25


def test_goodput_is_the_share_of_the_whole_run():
    clock = Clock()
    measured = meter(clock)
    for kind, seconds in (("starting", 10.0), ("compiling", 20.0), ("saving", 5.0)):
        with measured.spending(kind):
            clock.go(seconds)
    rounds(measured, clock, 100, wait=0.1, work=0.5)
    with pytest.raises(OSError), measured.spending("saving"):
        clock.go(5.0)
        raise OSError
    assert measured.values()["goodput"] == pytest.approx(
        {"steps": 0.5, "starting": 0.1, "compiling": 0.2}
        | {"waiting": 0.1, "saving": 0.1, "evaluating": 0.0}
    )
    assert measured.summary() == (
        "Time of the run: 100 s, of them steps 50%, starting 10%, compiling 20%, "
        "waiting 10%, saving 10%, evaluating 0%"
    )


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
    measured = Meter(batch_size=1)
    measured.flops = 1
    values = measured.values()
    assert not {"memory_gib", "mfu"} & values.keys()
    array = bytearray(2**27)
    assert 2**27 < host_memory() < 2**37
    assert values["host_memory_gib"] > 0.01
    del array
