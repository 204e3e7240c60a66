"""Promises of the memory: an answer is that of the same question alone, and the bound holds."""

import numpy as np
import pytest
import torch
from torch import nn

from clarity.metrics.memory import Memory


def linear() -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(2, 2)


def asked(memory: Memory, model: nn.Module, *question: np.ndarray) -> bool:
    """Whether the memory had to compute the answer."""
    computed = []
    memory.get(model, question, lambda: computed.append(1) or np.zeros(2))
    return bool(computed)


def test_the_same_question_is_computed_once():
    memory, model = Memory(), linear()
    inputs, classes = np.ones((2, 3), np.float32), np.array([0, 1])
    assert asked(memory, model, inputs, classes)
    assert not asked(memory, model, inputs.copy(), classes.copy())
    assert (memory.hits, memory.misses) == (1, 1)


@pytest.mark.parametrize(
    "question",
    [
        (np.full((2, 3), 2, np.float32), np.array([0, 1])),
        (np.ones((2, 3), np.float32), np.array([1, 0])),
        (np.ones((3, 2), np.float32), np.array([0, 1])),
        (np.ones((2, 3), np.float64), np.array([0, 1])),
        (np.ones((2, 3), np.float32),),
    ],
)
def test_inputs_targets_shapes_and_types_count(question):
    memory, model = Memory(), linear()
    asked(memory, model, np.ones((2, 3), np.float32), np.array([0, 1]))
    assert asked(memory, model, *question)


def test_the_state_of_the_model_counts_whatever_changed_it():
    memory, model, question = Memory(), linear(), np.ones(3)
    assert asked(memory, model, question)
    with torch.no_grad():
        model.weight[0, 0] += 1
    assert asked(memory, model, question)
    model.weight = nn.Parameter(model.weight.detach() * 2)
    assert asked(memory, model, question)
    model.register_buffer("scale", torch.ones(1))
    assert asked(memory, model, question)
    assert not asked(memory, model, question)


def test_another_model_with_the_same_weights_is_the_same_model():
    memory, question = Memory(), np.ones(3)
    assert asked(memory, linear(), question)
    assert not asked(memory, linear(), question)

    class Squared(nn.Linear):
        pass

    other = Squared(2, 2)
    other.load_state_dict(linear().state_dict())
    assert asked(memory, other, question)


def test_a_model_that_is_gone_is_not_taken_for_another():
    memory, question = Memory(), np.ones(3)
    for seed in range(20):
        torch.manual_seed(seed)
        assert asked(memory, nn.Linear(2, 2), question)


def test_the_answer_used_longest_ago_goes_first():
    memory, model = Memory(limit=40), linear()  # an answer has 16 bytes
    first, second, third = (np.full(1, value) for value in range(3))
    asked(memory, model, first)
    asked(memory, model, second)
    assert not asked(memory, model, first)
    asked(memory, model, third)
    assert not asked(memory, model, first)
    assert asked(memory, model, second)


def test_an_answer_larger_than_the_memory_is_given_and_not_kept():
    memory = Memory(limit=8)
    assert asked(memory, linear(), np.ones(1))
    assert asked(memory, linear(), np.ones(1))


def test_an_answer_cannot_be_written_to():
    memory, model = Memory(), linear()
    for _ in range(2):
        answer = memory.get(model, (np.ones(1),), lambda: np.zeros(2))
        with pytest.raises(ValueError, match="read-only"):
            answer[0] = 1
