"""Tapes of the inputs and the output gradients of a module's layers, recorded by hooks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from begat.errors import BegatError
from begat.influence.layer_inputs import (
    Activations,
    OutputGradients,
    layer_inputs,
    output_gradients,
)
from begat.influence.layers import Layer

CACHE_ELEMENTS = 2**19  # elements of patches or gradients made at a time, to stay in a cache


@dataclass
class Call:
    """One call of a layer: its input, and after a backward pass its output gradient."""

    activation: Tensor
    gradient: Tensor | None = None


class Tape:
    """Inputs of a module's layers in the last forward pass, output gradients of the backward pass.

    A layer that a module calls several times has several calls on the tape.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = layers
        self.calls: dict[str, list[Call]] = {}
        self.leaves: list[Tensor] = []

    @property
    def elements(self) -> int:
        """Elements in memory: inputs and output gradients of all calls."""
        calls = (call for calls in self.calls.values() for call in calls)
        tensors = ((call.activation, call.gradient) for call in calls)
        return sum(v.numel() for pair in tensors for v in pair if v is not None)

    def clear(self) -> None:
        """Remove all calls, before the next forward pass."""
        self.calls = {layer.name: [] for layer in self.layers}
        self.leaves = []

    def record(self, layer: Layer, activation: Tensor, output: Tensor) -> None:
        """Store a layer's input; its output gradient follows in the backward pass.

        No parameter requires a gradient while a tape records, so that weight gradients that nobody
        uses are not computed; the graph begins at the outputs of the first layers instead.
        """
        if not output.requires_grad:
            self.leaves.append(output.requires_grad_())
        call = Call(activation.detach())
        self.calls[layer.name].append(call)

        def store_gradient(gradient: Tensor) -> None:
            call.gradient = gradient.detach()

        output.register_hook(store_gradient)

    def backward(self, output: Tensor, gradient: Tensor, *, retain_graph: bool = False) -> None:
        """Propagate ``gradient`` of the output to every layer."""
        torch.autograd.grad(
            output, self.leaves, gradient, retain_graph=retain_graph, allow_unused=True
        )

    def inputs_and_gradients(
        self, layer: Layer, examples: slice = slice(None)
    ) -> tuple[Activations, OutputGradients]:
        """Returns a layer's ``a`` and ``b``; positions of several calls are concatenated.

        Raises:
            BegatError: the layer has no output gradient.
        """
        pairs = [
            (
                layer_inputs(layer.module, activation[examples]),
                output_gradients(layer.module, gradient[examples]),
            )
            for activation, gradient in self.layer_calls(layer)
        ]
        if len(pairs) == 1:
            return pairs[0]
        return torch.cat([a for a, _ in pairs], 1), torch.cat([b for _, b in pairs], 1)

    def chunks(self, layer: Layer) -> Iterator[tuple[slice, Activations, OutputGradients]]:
        """Yields the same for consecutive slices of examples, as small as ``slices`` makes them."""
        gradient = self.layer_calls(layer)[0][1]
        positions = gradient[0].numel() // layer.out_features
        elements = max(positions, layer.out_features) * max(layer.in_features, 1)
        for examples in self.slices(layer, elements):
            yield examples, *self.inputs_and_gradients(layer, examples)

    def slices(
        self, layer: Layer, elements: int, multiple: int = 1, max_elements: int = CACHE_ELEMENTS
    ) -> Iterator[slice]:
        """Yields consecutive slices of examples, a multiple of ``multiple`` in each.

        An example makes ``elements`` elements, a slice at most ``max_elements`` where it can, so
        that they stay in a processor's cache; new memory for all examples' patches costs more than
        writing to it.
        """
        step = max(1, max_elements // (elements * multiple)) * multiple
        for start in range(0, len(self.layer_calls(layer)[0][0]), step):
            yield slice(start, start + step)

    def layer_calls(self, layer: Layer) -> list[tuple[Tensor, Tensor]]:
        """Returns input and output gradient of every call of a layer.

        Raises:
            BegatError: the layer has no output gradient.
        """
        calls = [
            (call.activation, call.gradient)
            for call in self.calls[layer.name]
            if call.gradient is not None
        ]
        if not calls:
            raise BegatError(f"layer {layer.name} took no part in the network's output")
        return calls


@contextmanager
def recording(module: nn.Module, layers: Sequence[Layer]) -> Iterator[Tape]:
    """Returns a tape that records ``module`` within the context, and restores the module after."""
    tape = Tape(layers)
    training = [(submodule, submodule.training) for submodule in module.modules()]
    trainable = [p for p in module.parameters() if p.requires_grad]

    def hook(layer: Layer) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda _, inputs, output: tape.record(layer, inputs[0], output)

    handles = [layer.module.register_forward_hook(hook(layer)) for layer in layers]
    try:
        module.eval().requires_grad_(False)
        with torch.enable_grad():
            yield tape
    finally:
        for handle in handles:
            handle.remove()
        for submodule, mode in training:
            submodule.training = mode
        for parameter in trainable:
            parameter.requires_grad_()
