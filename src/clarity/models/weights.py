"""Weights: own how a file of weights is read and put into a network; nothing is unpickled."""

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from clarity.recipes import nearest

#: Under which of these keys training scripts commonly put the state dict of their network.
WRAPPERS = ("state_dict", "model")


def read(path: str) -> dict[str, Tensor]:
    """Read a state dict from a safetensors file (``.safetensors``) or a file of `torch.save`.

    Raises:
        ValueError: if the file is neither, or holds any object but tensors; names the file.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: found no such file of weights")
    try:
        if path.endswith(".safetensors"):
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{path}: cannot be read as weights; wanted a safetensors file (*.safetensors), or a "
            f"state dict of tensors alone as written by torch.save(network.state_dict(), ...). "
            f"Objects are never unpickled. ({str(error).splitlines()[0]})"
        ) from error
    for key in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{path}: found {type(state).__name__}, wanted a dict of name to tensor")
    return dict(state)


def put(
    state: Mapping[str, Tensor], network: nn.Module, path: str, dropped: Iterable[str] = ()
) -> None:
    """Copy a state dict into a network, name by name.

    A first convolution for one channel takes the sum of the weights for three: what these make of
    a grey image.

    Args:
        state: the state dict.
        network: the network, changed in place.
        path: where the state dict is from, for the messages.
        dropped: names of the network that the file need not have, and that are left as they are.

    Raises:
        ValueError: if a name is missing or too many, or a shape is another; names the first ones.
    """
    own = network.state_dict()
    counts = {name for name in own if name.endswith("num_batches_tracked")}  # not in old files
    wanted = own.keys() - set(dropped) - (counts - state.keys())
    foreign = sorted(state.keys() - own.keys())
    problems = [
        *(
            f"no '{name}'{nearest(name, foreign).rstrip('.')}"
            for name in sorted(wanted - state.keys())
        ),
        *(f"'{name}', which the network has not" for name in foreign),
    ]
    fitting = {}
    for name in sorted(wanted & state.keys()):
        value = state[name]
        if own[name].shape[1:2] == (1,) and value.shape[1:2] == (3,):
            value = value.sum(1, keepdim=True)
        if value.shape != own[name].shape:
            problems.append(
                f"'{name}' of shape {list(value.shape)}, wanted {list(own[name].shape)}"
            )
        fitting[name] = value
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(f"{path}: found {'; '.join(problems[:5])}{more}")
    network.load_state_dict(own | fitting)
