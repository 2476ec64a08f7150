"""A GPU's pod is replaced when somebody else answers meanwhile, where anybody else can."""

from __future__ import annotations

import pytest

from reembed.core.covers import Cover, cover
from reembed.core.model import Device, Problem, Variant
from reembed.core.scaling import Crew

GPU, CPU = Variant("gpu", 1, 2, Device.GPU), Variant("cpu", 0, 2)
UP = {"gpu": Crew(1, 1), "cpu": Crew()}


@pytest.mark.parametrize(
    ("crews", "outdated", "expected"),
    [
        pytest.param(UP, (), Cover({"gpu": 1, "cpu": 0}), id="nothing is replaced"),
        pytest.param(UP, ("gpu",), Cover({"gpu": 1, "cpu": 1}, frozenset({"gpu"})), id="another comes first"),
        pytest.param({**UP, "cpu": Crew(1, 1)}, ("gpu",), Cover({"gpu": 1, "cpu": 1}), id="another answers"),
        pytest.param(
            {**UP, "cpu": Crew(1, 0)}, ("gpu",), Cover({"gpu": 1, "cpu": 1}, frozenset({"gpu"})), id="another starts"
        ),
        pytest.param({**UP, "cpu": Crew(1, 0, 1)}, ("gpu",), Cover({"gpu": 1, "cpu": 0}), id="no room for another"),
        pytest.param({**UP, "gpu": Crew(1, 0)}, ("gpu",), Cover({"gpu": 1, "cpu": 0}), id="it does not answer itself"),
        pytest.param(
            {**UP, "cpu": Crew(refused=Problem("a", "b"))}, ("gpu",), Cover({"gpu": 1, "cpu": 0}), id="nobody else"
        ),
        pytest.param(UP, ("cpu",), Cover({"gpu": 1, "cpu": 0}), id="a CPU's pod is replaced with a surge"),
        pytest.param(
            UP, ("gpu", "cpu"), Cover({"gpu": 1, "cpu": 1}, frozenset({"gpu"})), id="a newer operator replaces all"
        ),
    ],
)
def test_a_gpu_is_covered_while_its_pod_is_replaced(
    crews: dict[str, Crew], outdated: tuple[str, ...], expected: Cover
) -> None:
    assert cover((GPU, CPU), crews, {"gpu": 1, "cpu": 0}, outdated) == expected


@pytest.mark.parametrize(
    ("crews", "expected"),
    [
        pytest.param({**UP, "cpu": Crew(1, 1)}, {"gpu": 1, "cpu": 1}, id="who answers stays"),
        pytest.param(UP, {"gpu": 1, "cpu": 0}, id="nobody is made"),
    ],
)
def test_a_gpu_that_is_being_replaced_keeps_its_cover(crews: dict[str, Crew], expected: dict[str, int]) -> None:
    assert cover((GPU, CPU), crews, {"gpu": 1, "cpu": 0}, (), rolling=("gpu",)) == Cover(expected)


def test_two_gpu_variants_are_replaced_one_after_the_other() -> None:
    both = (GPU, Variant("big", 1, 1, Device.GPU))
    crews, wanted = {"gpu": Crew(1, 1), "big": Crew(1, 1)}, {"gpu": 1, "big": 1}
    assert cover(both, crews, wanted, {"gpu", "big"}) == Cover(wanted, frozenset({"big"}))
    assert cover(both, crews, wanted, {"big"}, {"gpu"}) == Cover(wanted, frozenset({"big"}))
