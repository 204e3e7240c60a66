"""Promises of the runtime: what makes results repeat is on inside, and as it was afterwards."""

import pytest
import torch

from clarity.runtime import deterministic


def state() -> tuple:
    return (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.allow_tf32,
    )


def test_threads_determinism_and_full_precision_hold_inside_alone():
    before = state()
    with deterministic("cpu", 1) as device:
        assert device == torch.device("cpu")
        assert state() == (1, True, False)
        assert not torch.backends.cudnn.benchmark
    assert state() == before


def test_all_is_as_before_after_an_error_too():
    before = state()
    with pytest.raises(ZeroDivisionError), deterministic("auto", 1):
        1 / 0  # noqa: B018
    assert state() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_an_error_and_no_silent_cpu():
    with pytest.raises(RuntimeError, match="torch sees no GPU"), deterministic("cuda", 1):
        pass
