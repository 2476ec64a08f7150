"""Pressure is a share of what the container may use, read once a second."""

from __future__ import annotations

from dataclasses import dataclass

from reembed.backfill.pressure import ContainerPressure
from reembed.cgroup import Memory


@dataclass
class Container:
    """Two CPUs and 1000 bytes; `now` and `worked` are set by hand."""

    now: float = 0.0
    worked: float = 0.0
    used: int = 250

    def pressure(self) -> ContainerPressure:
        return ContainerPressure(lambda: self.now, lambda: self.worked, lambda: Memory(self.used, 1000), lambda: 2.0)


def test_the_cpu_is_not_known_before_a_second_has_passed() -> None:
    assert Container().pressure()() == (0.25, None)


def test_cpu_is_the_share_of_all_cpus_since_the_last_reading() -> None:
    container = Container()
    pressure = container.pressure()
    container.now, container.worked, container.used = 2.0, 3.0, 900
    assert pressure() == (0.9, 0.75)


def test_readings_are_kept_for_a_second() -> None:
    container = Container()
    pressure = container.pressure()
    container.now, container.used = 0.9, 900
    assert pressure() == (0.25, None)
