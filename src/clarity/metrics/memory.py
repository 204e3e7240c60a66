"""Memory: owns what a cell's metrics need not compute twice, bounded and exact.

Robustness metrics explain the same perturbed images, and randomised copies of a model are the same
for every metric that randomises it. A call is remembered as a whole: its arrays, the state of the
model and what was asked decide, so that an answer from memory has the very bytes that a new
computation would have. A part of a batch would not: networks round differently in batches of
another size.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from weakref import WeakKeyDictionary

import numpy as np
from torch import nn

#: Bytes that a memory holds unless told otherwise: 1,000 calls of 64 maps of 64x64.
LIMIT = 1 << 30


class Memory:
    """Answers by what was asked; the one that was used the longest ago goes first.

    Attributes:
        hits: calls that were answered from memory.
        misses: calls that were computed.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        """Hold at most ``limit`` bytes of answers; 0 remembers nothing."""
        self.limit = limit
        self.hits = self.misses = 0
        self._held: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._bytes = 0
        self._states: WeakKeyDictionary[nn.Module, tuple[tuple[int, ...], bytes]] = (
            WeakKeyDictionary()
        )

    def get(
        self, model: nn.Module, question: tuple[np.ndarray, ...], compute: Callable[[], np.ndarray]
    ) -> np.ndarray:
        """Return the answer to a question to a model, computed if it is not known.

        Args:
            model: whose parameters, buffers and class count as asked.
            question: all arrays that the answer depends on.
            compute: gives the answer.

        Returns:
            An array that must not be written to, and cannot.
        """
        key = hashlib.blake2b(self._state(model), digest_size=16)
        for array in question:
            key.update(f"{array.dtype}{array.shape}".encode())
            key.update(np.ascontiguousarray(array).data)
        place = key.digest()
        if place in self._held:
            self.hits += 1
            self._held.move_to_end(place)
            return self._held[place]
        self.misses += 1
        answer = compute()
        answer.flags.writeable = False
        if answer.nbytes <= self.limit:
            self._held[place] = answer
            self._bytes += answer.nbytes
            while self._bytes > self.limit:
                self._bytes -= self._held.popitem(last=False)[1].nbytes
        return answer

    def _state(self, model: nn.Module) -> bytes:
        """Return a digest of what a model computes, taken anew when a tensor was changed."""
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        versions = tuple(
            number
            for tensor in tensors.values()
            for number in (id(tensor), tensor.data_ptr(), tensor._version)
        )
        known = self._states.get(model)
        if known is None or known[0] != versions:
            digest = hashlib.blake2b(digest_size=16)
            digest.update(f"{type(model).__qualname__} {model.extra_repr()}".encode())
            for name, tensor in tensors.items():
                digest.update(name.encode())
                digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).data)
            known = (versions, digest.digest())
            self._states[model] = known
        return known[1]
