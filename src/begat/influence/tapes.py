"""Tapes of the inputs and the output gradients of a module's layers, recorded by hooks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from begat.errors import BegatError
from begat.influence.layer_inputs import Returned, Seen, inputs_of, outputs_of
from begat.influence.layers import Layer

ALL = slice(None)
CACHE_NUMBERS = 2**19  # numbers of patches or of gradients made at a time: they stay in a cache


@dataclass
class Call:
    """One use of a layer: its input, and after a backward pass its output's gradient."""

    input: Tensor
    gradient: Tensor | None = None


class Tape:
    """What the layers of a module saw in the last forward pass, and in the last backward pass."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = layers
        self.calls: dict[str, list[Call]] = {}
        self.leaves: list[Tensor] = []

    @property
    def numbers(self) -> int:
        """How many numbers are held: inputs and output gradients of all calls."""
        calls = (call for calls in self.calls.values() for call in calls)
        held = ((call.input, call.gradient) for call in calls)
        return sum(v.numel() for pair in held for v in pair if v is not None)

    def clear(self) -> None:
        """Forget, before the next forward pass."""
        self.calls = {layer.name: [] for layer in self.layers}
        self.leaves = []

    def note(self, layer: Layer, seen: Tensor, output: Tensor) -> None:
        """Keep a layer's input; its output's gradient follows in the backward pass.

        No parameter requires a gradient while a tape runs, so no weight gradient is computed that
        would be thrown away; the graph begins at the outputs of the first layers instead.
        """
        if not output.requires_grad:
            self.leaves.append(output.requires_grad_())
        call = Call(seen.detach())
        self.calls[layer.name].append(call)

        def keep(gradient: Tensor) -> None:
            call.gradient = gradient.detach()

        output.register_hook(keep)

    def backward(self, output: Tensor, gradient: Tensor, *, again: bool = False) -> None:
        """Carry ``gradient`` of the output back to every layer; ``again`` allows another pass."""
        torch.autograd.grad(output, self.leaves, gradient, retain_graph=again, allow_unused=True)

    def positions(self, layer: Layer, some: slice = ALL) -> tuple[Seen, Returned]:
        """A layer's ``a`` and ``b``; several uses of one layer stand one after another.

        Raises:
            BegatError: nothing came back to the layer.
        """
        pairs = [
            (inputs_of(layer.module, seen[some]), outputs_of(layer.module, back[some]))
            for seen, back in self.uses(layer)
        ]
        if len(pairs) == 1:
            return pairs[0]
        return torch.cat([a for a, _ in pairs], 1), torch.cat([b for _, b in pairs], 1)

    def pieces(self, layer: Layer) -> Iterator[tuple[slice, Seen, Returned]]:
        """The same for some examples after others, as many at a time as ``slices`` says."""
        gradient = self.uses(layer)[0][1]
        positions = gradient[0].numel() // layer.outputs
        for some in self.slices(layer, max(positions, layer.outputs) * max(layer.inputs, 1)):
            yield some, *self.positions(layer, some)

    def slices(
        self, layer: Layer, numbers: int, whole: int = 1, held: int = CACHE_NUMBERS
    ) -> Iterator[slice]:
        """Consecutive examples, a multiple of ``whole``, each of which makes so many numbers.

        So few that these stay in a processor's cache; a fresh block of memory for all examples'
        patches costs more than filling it.
        """
        several = max(1, held // (numbers * whole)) * whole
        for start in range(0, len(self.uses(layer)[0][0]), several):
            yield slice(start, start + several)

    def uses(self, layer: Layer) -> list[tuple[Tensor, Tensor]]:
        """Input and output gradient of every use of a layer.

        Raises:
            BegatError: nothing came back to the layer.
        """
        calls = [(c.input, c.gradient) for c in self.calls[layer.name] if c.gradient is not None]
        if not calls:
            raise BegatError(f"layer {layer.name} took no part in the network's output")
        return calls


@contextmanager
def recorded(module: nn.Module, layers: Sequence[Layer]) -> Iterator[Tape]:
    """A tape that listens to ``module`` until the context ends; the module is left as it was."""
    tape = Tape(layers)
    training = [(part, part.training) for part in module.modules()]
    wanted = [p for p in module.parameters() if p.requires_grad]

    def listener(layer: Layer) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda _, seen, output: tape.note(layer, seen[0], output)

    handles = [layer.module.register_forward_hook(listener(layer)) for layer in layers]
    try:
        module.eval().requires_grad_(False)
        with torch.enable_grad():
            yield tape
    finally:
        for handle in handles:
            handle.remove()
        for part, was in training:
            part.training = was
        for parameter in wanted:
            parameter.requires_grad_()
