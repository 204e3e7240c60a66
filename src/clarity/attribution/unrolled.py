"""Unrolled networks: own how a network becomes a graph of layers that are each called once.

Rules for single layers, such as those of layer-wise relevance propagation, need every step of a
network as a layer of its own: a rectifier that is used at ten places is ten layers, one that is a
function is a layer too, and so is the sum at the end of a residual block. Knows no method, and no
network by name; what the steps mean to a rule is for the rules to say.
"""

import copy
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from zennit.layer import Sum

from clarity.attribution.protocol import MethodUnavailable

#: Layers of libraries that are kept whole although their class is not torch's own: in their forward
#: pass they compute with sizes as numbers, which a trace has none of.
WHOLE = (
    _ConvNd,
    nn.Linear,
    _BatchNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.MultiheadAttention,
)

#: Convolutions that are linear in their weights as torch's own are: they pad by the image's size.
LIKE_TORCHS = ("Conv2dSame",)

#: Functions, and methods of a tensor, as layers: the layer and those of their arguments that the
#: layer takes too. ``inplace`` is never among them.
LAYERS: dict[Any, tuple[type[nn.Module], tuple[str, ...]]] = {
    F.relu: (nn.ReLU, ()),
    F.relu_: (nn.ReLU, ()),
    torch.relu: (nn.ReLU, ()),
    torch.relu_: (nn.ReLU, ()),
    "relu": (nn.ReLU, ()),
    "relu_": (nn.ReLU, ()),
    F.relu6: (nn.ReLU6, ()),
    F.hardtanh: (nn.Hardtanh, ("min_val", "max_val")),
    F.leaky_relu: (nn.LeakyReLU, ("negative_slope",)),
    F.elu: (nn.ELU, ("alpha",)),
    F.gelu: (nn.GELU, ("approximate",)),
    F.silu: (nn.SiLU, ()),
    F.mish: (nn.Mish, ()),
    F.hardswish: (nn.Hardswish, ()),
    F.hardsigmoid: (nn.Hardsigmoid, ()),
    F.sigmoid: (nn.Sigmoid, ()),
    torch.sigmoid: (nn.Sigmoid, ()),
    "sigmoid": (nn.Sigmoid, ()),
    F.tanh: (nn.Tanh, ()),
    torch.tanh: (nn.Tanh, ()),
    "tanh": (nn.Tanh, ()),
    F.softplus: (nn.Softplus, ("beta", "threshold")),
    F.max_pool2d: (nn.MaxPool2d, ("kernel_size", "stride", "padding", "dilation", "ceil_mode")),
    torch.max_pool2d: (nn.MaxPool2d, ("kernel_size", "stride", "padding", "dilation", "ceil_mode")),
    F.avg_pool2d: (
        nn.AvgPool2d,
        (
            "kernel_size",
            "stride",
            "padding",
            "ceil_mode",
            "count_include_pad",
            "divisor_override",
        ),
    ),
    F.adaptive_avg_pool2d: (nn.AdaptiveAvgPool2d, ("output_size",)),
}

SUMS = (operator.add, operator.iadd, torch.add, "add", "add_", "__add__", "__iadd__")
PRODUCTS = (operator.mul, operator.imul, torch.mul, "mul", "mul_")

#: Functions that do nothing outside training, where they are told so.
OFF = (F.dropout, F.dropout2d, F.alpha_dropout, torch.dropout)


def _stacked(first: Tensor, second: Tensor) -> Tensor:
    """Stack two tensors of shapes that fit each other, for a sum over the first axis."""
    return torch.stack(torch.broadcast_tensors(first, second))  # type: ignore[no-untyped-call]


#: Steps that carry numbers elsewhere and change none. Zeros that pad an image are new, not changed.
MOVES = frozenset(
    {
        torch.cat,
        torch.chunk,
        torch.flatten,
        torch.permute,
        torch.reshape,
        torch.split,
        torch.stack,
        torch.transpose,
        F.pad,
        _stacked,
        operator.getitem,
        "chunk",
        "contiguous",
        "expand",
        "flatten",
        "movedim",
        "permute",
        "reshape",
        "split",
        "squeeze",
        "transpose",
        "unbind",
        "unflatten",
        "unsqueeze",
        "view",
    }
)
MOVING = (
    nn.ChannelShuffle,
    nn.Flatten,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.Unflatten,
    nn.ZeroPad2d,
)


@dataclass(frozen=True)
class Step:
    """One step from images to maps that computes.

    Attributes:
        node: its node in the graph.
        layer: the layer; None if the step is a function or a method of a tensor.
        features: how many of its arguments depend on the image.
    """

    node: fx.Node
    layer: nn.Module | None
    features: int

    @property
    def kind(self) -> str:
        """The name of the layer's class, or of the function or method."""
        found = self.layer.__class__ if self.layer is not None else self.node.target
        return found if isinstance(found, str) else found.__name__

    def __str__(self) -> str:
        """Name the step and its place, for a message."""
        return f"{self.kind} ({self.node.meta['place']})"


def unroll(network: nn.Module) -> fx.GraphModule:
    """Copy a network in evaluation mode into a graph of layers that are each called once.

    The copy yields the same outputs. Its layers are its children, in the order of their calls;
    functions for which torch has a layer are layers, the sum of two tensors is a
    `zennit.layer.Sum` over them as one stack, a layer that normalises and rectifies is two, and
    what does nothing outside training is gone.

    Args:
        network: from one tensor to one. Left as it was: weights are copied, and forward hooks are
            not, but for those by which the network itself takes what a layer of its yields.

    Raises:
        MethodUnavailable: if what it computes depends on more than the sizes of its input, so that
            there is no one graph.
    """
    source = copy.deepcopy(network).eval()
    for module in source.modules():
        module._backward_hooks.clear()
        module._forward_pre_hooks.clear()
        for key, hook in list(module._forward_hooks.items()):
            if getattr(hook, "__self__", None) is not source:
                del module._forward_hooks[key]
        if hasattr(module, "inplace"):
            setattr(module, "inplace", False)  # noqa: B010  (to mypy, it may be no flag)
    try:
        graph = _Tracer().trace(source)
    except Exception as error:  # the forward pass of any network may fail in any way without data
        raise MethodUnavailable(f"the network cannot be unrolled into a graph: {error}") from error
    copied = _Unrolling(source)
    needed = _needed(graph)
    for node in graph.nodes:
        if node in needed:
            copied.add(node)
    return copied.finished()


def merge_batch_norms(network: fx.GraphModule) -> None:
    """Merge each batch normalisation into the linear layer whose output only it takes, in place.

    A rule that shares relevance out among the inputs of a layer then sees the weights by which they
    count in the end: Montavon et al., 2019, "Layer-Wise Relevance Propagation: An Overview",
    section 10.3. One behind anything else stays.

    Args:
        network: from `unroll`.
    """
    for node in list(network.graph.nodes):
        norm = _layer(network, node)
        before = node.args[0] if node.args else None
        if not isinstance(norm, _BatchNorm) or not isinstance(before, fx.Node):
            continue
        linear = _layer(network, before)
        if not is_linear(linear) or len(before.users) > 1:
            continue
        if isinstance(linear, _ConvNd):
            transposed = linear.transposed
            merged: nn.Module = fuse_conv_bn_eval(linear, norm, transpose=transposed)
        else:
            assert isinstance(linear, nn.Linear)
            merged = fuse_linear_bn_eval(linear, norm)
        setattr(network, str(before.target), merged.requires_grad_(False))
        node.replace_all_uses_with(before)
        network.graph.erase_node(node)
    network.delete_all_unused_submodules()
    network.recompile()


def is_linear(layer: nn.Module | None) -> bool:
    """Whether a layer is a convolution or matrix, linear in its input and in its weights."""
    kind = type(layer)
    return isinstance(layer, _ConvNd | nn.Linear) and (
        kind.__module__.startswith("torch.nn.") or kind.__name__ in LIKE_TORCHS
    )


def steps(network: fx.GraphModule) -> Iterator[Step]:
    """Yield the steps of an unrolled network that compute with what depends on the image.

    Those that only move numbers, or compute with sizes or weights alone, are left out.
    """
    features: set[fx.Node] = set()
    for node in network.graph.nodes:
        depends = any(before in features for before in node.all_input_nodes)
        if node.op == "placeholder" or (depends and not node.meta.get("number")):
            features.add(node)
        if node.op in ("placeholder", "output") or node not in features:
            continue
        layer = _layer(network, node)
        if node.target not in MOVES and not isinstance(layer, MOVING):
            yield Step(node, layer, sum(argument in features for argument in node.args))


def demand_rules(method: str, network: fx.GraphModule, has_rule: Callable[[Step], bool]) -> None:
    """Raise `MethodUnavailable` if a step of an unrolled network has no rule, and name the first.

    Args:
        method: its name, for the message.
        network: the network.
        has_rule: whether the method has a rule for a step.
    """
    lacking = [step for step in steps(network) if not has_rule(step)]
    if not lacking:
        return
    others = dict.fromkeys(step.kind for step in lacking if step.kind != lacking[0].kind)
    more = f", nor for {', '.join(others)}" if others else ""
    raise MethodUnavailable(f"{method} has no rule for {lacking[0]}{more}")


class _Tracer(fx.Tracer):
    """Traces a network, and honours the hooks by which it takes what a layer yields."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, WHOLE) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        output = super().call_module(m, forward, args, kwargs)
        # The hooks of others ran in `forward`: they are called as modules are, not as one node.
        if self.is_leaf_module(m, self.path_of_module(m)):
            for hook in m._forward_hooks.values():
                changed = hook(m, args, output)
                output = output if changed is None else changed
        return output


class _Unrolling:
    """Builds the graph of layers from that of a trace, node by node."""

    def __init__(self, source: nn.Module) -> None:
        """Begin with an empty graph.

        Args:
            source: the network that was traced.
        """
        self._source = source
        self._graph = fx.Graph()
        self._parts: dict[str, Any] = {}
        self._used: set[nn.Module] = set()
        self._copies: dict[fx.Node, fx.Node] = {}

    def finished(self) -> fx.GraphModule:
        """Return the network."""
        self._graph.lint()
        return fx.GraphModule(self._parts, self._graph).eval().requires_grad_(False)

    def add(self, node: fx.Node) -> None:
        """Copy one node of the trace; those that it needs were copied before."""
        copied = self._copied(node)
        copied.meta.setdefault("place", _place(node))
        self._copies[node] = copied

    def _copied(self, node: fx.Node) -> fx.Node:
        inputs = [self._copies[before] for before in node.all_input_nodes]
        if node.op == "call_module":
            return self._call(node, self._source.get_submodule(str(node.target)))
        if node.op == "get_attr":
            path = str(node.target)
            return self._graph.get_attr(self._part(path, _fetch(self._source, path)))
        if node.op in ("call_function", "call_method"):
            if _is_number(node, inputs):
                copied = self._graph.node_copy(node, self._copies.__getitem__)
                copied.meta["number"] = True
                return copied
            if _is_off(node):
                return inputs[0]
            terms = [self._argument(argument) for argument in node.args]
            plain = len(terms) == 2 and not node.kwargs
            added = [t for t in terms if isinstance(t, fx.Node) and t.op != "get_attr"]
            if node.target in SUMS and plain and len(added) == 2:
                stack = self._graph.call_function(_stacked, tuple(terms))
                stack.meta["place"] = _place(node)
                return self._layer(_place(node), Sum(dim=0), stack)
            if node.target in PRODUCTS and plain:
                # Out of place: what is multiplied may be needed as it was.
                return self._graph.call_function(operator.mul, tuple(terms))
            layer = _as_layer(node)
            if layer is not None:
                return self._layer(_place(node), layer, inputs[0])
        return self._graph.node_copy(node, self._copies.__getitem__)

    def _argument(self, argument: Any) -> Any:
        return self._copies[argument] if isinstance(argument, fx.Node) else argument

    def _call(self, node: fx.Node, layer: nn.Module) -> fx.Node:
        """Call a layer of the source, or the layers that it consists of."""
        place = str(node.target)
        inputs = [self._argument(argument) for argument in node.args]
        if isinstance(layer, nn.Identity | _DropoutNd):
            return self._copies[node.all_input_nodes[0]]
        children = dict(layer.named_children())
        if isinstance(layer, nn.BatchNorm2d) and {"drop", "act"} <= children.keys():
            # timm's normalisation that rectifies. Its dropout is for training.
            output = self._layer(place, _alone(layer), *inputs)
            act = children["act"]
            still = isinstance(act, nn.Identity)
            return output if still else self._layer(f"{place}.act", act, output)
        named = {name: self._argument(value) for name, value in node.kwargs.items()}
        return self._layer(place, layer, *inputs, **named)

    def _layer(self, place: str, layer: nn.Module, *inputs: Any, **named: Any) -> fx.Node:
        if layer in self._used:
            layer = copy.deepcopy(layer)
        self._used.add(layer)
        called = self._graph.call_module(self._part(place, layer), inputs, named)
        called.meta["place"] = place
        return called

    def _part(self, path: str, part: Any) -> str:
        """Keep a layer or tensor under a name of its own, and return the name."""
        name = flat = path.replace(".", "_") or "network"
        count = 1
        while name in self._parts:
            count += 1
            name = f"{flat}_{count}"
        self._parts[name] = part
        return name


def _needed(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes that lead to the output: not the layers behind the end of a trunk."""
    needed: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op in ("placeholder", "output") or any(user in needed for user in node.users):
            needed.add(node)
    return needed


def _layer(network: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def _place(node: fx.Node) -> str:
    """Return the dotted name of the layer within which a step of the trace was taken."""
    stack = node.meta.get("nn_module_stack") or {"": None}
    return str(list(stack)[-1]) or "in its own forward pass"


def _fetch(source: nn.Module, path: str) -> Any:
    return operator.attrgetter(path)(source)


def _is_number(node: fx.Node, inputs: list[fx.Node]) -> bool:
    """Whether a function or method returns sizes, or what was computed from sizes alone."""
    reads = node.target in ("size", "dim", "numel") or (
        node.target is getattr and node.args[1] in ("shape", "ndim", "dtype", "device")
    )
    return reads or (bool(inputs) and all(before.meta.get("number") for before in inputs))


def _is_off(node: fx.Node) -> bool:
    """Whether a function does nothing outside training."""
    name = getattr(node.target, "__name__", "")
    if node.target not in OFF and name != "stochastic_depth":
        return False
    return not node.kwargs.get("training", node.args[-1])


def _as_layer(node: fx.Node) -> nn.Module | None:
    """Return a function as a layer, if there is one and no argument is known at run time only."""
    if node.target not in LAYERS:
        return None
    kind, names = LAYERS[node.target]
    given = {**dict(zip(names, node.args[1:], strict=False)), **node.kwargs}
    taken = {name: value for name, value in given.items() if name in names}
    if any(isinstance(value, fx.Node) for value in taken.values()):
        return None
    return kind(**taken)


def _alone(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """Return a batch normalisation without what a subclass does behind it."""
    alone = nn.BatchNorm2d(norm.num_features, norm.eps, affine=norm.affine)
    alone.weight, alone.bias = norm.weight, norm.bias
    alone.running_mean, alone.running_var = norm.running_mean, norm.running_var
    return alone.eval()
