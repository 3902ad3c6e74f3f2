"""Influence scores end to end, by this package and by others: one draw per image, one network.

All see the same images, timesteps, noise and, where they let us, the same fake gradients. Each runs
in a process of its own, as ``influence.py`` starts it, so that its peak of memory is its own.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from begat.diffusion.image_draws import Draws, DrawsOf
from torch import Tensor, nn

from begat.diffusion.denoisers import Denoiser
from begat.diffusion.schedules import diffuse
from begat.influence.curvature import covariances, eigenbases, eigenvalues
from begat.influence.gradients import Sample
from begat.influence.layers import covered_layers
from begat.influence.scores import Curvatures, Variant, score

DAMPING = 1e-5
BATCH = 256
FEW = 64  # where all images' gradients are held by a plain program


@dataclass(frozen=True)
class Case:
    """A network, the images it is asked about, and the first of them as queries."""

    denoiser: Denoiser
    sample: Sample
    draws: DrawsOf
    queries: int

    @property
    def data(self) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy images, timesteps and noise."""
        dealt = self.draws(self.sample.number)
        t, noise = dealt.timestep[:, 0], dealt.noise[:, 0].contiguous()
        return diffuse(self.denoiser.schedule, self.sample.images(slice(None)), t, noise), t, noise

    @property
    def fakes(self) -> Tensor:
        """A fake output gradient for each image."""
        shape = (len(self.sample), *self.sample.pixels.shape[1:])
        generator = torch.Generator().manual_seed(1)
        return torch.randn(shape, generator=generator) * (2 / np.prod(shape[1:])) ** 0.5

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those of convolutions and linear layers, in our order."""
        layers = covered_layers(self.denoiser.module)
        return [p for layer in layers for p in layer.module.parameters(recurse=False)]


def first_draw(draws: DrawsOf) -> DrawsOf:
    """One draw per image, which the others take as an image."""

    def of(images):  # type: ignore[no-untyped-def]
        d = draws(images)
        return Draws(d.timestep[:, :1], d.noise[:, :1], d.flip[:, :1])

    return of


def begat(case: Case) -> np.ndarray:
    """EK-FAC."""
    layers, fakes = covered_layers(case.denoiser.module), case.fakes
    asked = case.denoiser, layers, case.sample, case.draws, lambda n, d, f: fakes[list(n)]
    bases = eigenbases(covariances(*asked), case.denoiser.like)
    (values,) = eigenvalues(*asked, bases)
    curvature = {n: {k: v.numpy() for k, v in (bases[n] | values[n]).items()} for n in bases}
    return scored(case, curvature, Variant("ekfac", "absolute", DAMPING), norms=False)


def scored(case: Case, curvature: Curvatures, variant: Variant, *, norms: bool) -> np.ndarray:
    """What the stage makes of these factors."""
    few = case.sample.only(range(case.queries))
    asked = case.denoiser, curvature, case.sample, few, case.draws, [variant]
    return score(*asked, norms=norms, centred=False, halves=False)["score"][0]


def kronfluence(case: Case) -> np.ndarray:
    """EK-FAC; weights and biases are one block."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import ScoreArguments
    from kronfluence.task import Task

    class Denoising(Task):
        def compute_train_loss(self, batch, model, sample=False):  # type: ignore[no-untyped-def]
            x, t, noise, fake = batch
            output = model(x, t).sample
            if sample:
                return (output * fake).sum()
            return (output - noise).square().mean((1, 2, 3)).sum()

        def compute_measurement(self, batch, model):  # type: ignore[no-untyped-def]
            return self.compute_train_loss(batch, model)

    whole = (*case.data, case.fakes)
    train = torch.utils.data.TensorDataset(*whole)
    asked = torch.utils.data.TensorDataset(*(v[: case.queries] for v in whole))
    task = Denoising()
    with tempfile.TemporaryDirectory() as folder:
        model = prepare_model(case.denoiser.module, task)
        analyzer = Analyzer("b", model, task, cpu=True, disable_tqdm=True, output_dir=folder)
        analyzer.fit_all_factors("f", train, per_device_batch_size=BATCH)
        arguments = ScoreArguments(damping_factor=DAMPING)
        some = dict(per_device_train_batch_size=BATCH, score_args=arguments)
        analyzer.compute_pairwise_scores("s", "f", asked, train, case.queries, **some)
        return analyzer.load_pairwise_scores("s")["all_modules"].numpy()


class OfPair(nn.Module):
    """A diffusers model as a function of one mapping, with a flat output."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, given: dict[str, Tensor]) -> Tensor:
        return self.module(given["x"], given["t"]).sample.flatten(1)


def gradients(case: Case, some: slice) -> list[Tensor]:
    """Gradients by image as torch gives them: ``vmap`` of ``grad``, by parameter."""
    module = case.denoiser.module
    names = {id(p): n for n, p in module.named_parameters()}
    wanted = {names[id(p)]: p.detach() for p in case.parameters}

    def loss(weights, x, t, noise):  # type: ignore[no-untyped-def]
        output = torch.func.functional_call(module, weights, (x[None], t[None])).sample
        return (output[0] - noise).square().mean()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0, 0, 0))
    found = each(wanted, *(v[some] for v in case.data))
    return list(found.values())


def curvlinops(case: Case) -> np.ndarray:
    """EK-FAC with fake gradients of its own; scores from the gradients torch gives by image."""
    from curvlinops import EKFACLinearOperator, KFACInverseLinearOperator

    x, t, noise = case.data
    data = [
        ({"x": x[i : i + BATCH], "t": t[i : i + BATCH]}, noise[i : i + BATCH].flatten(1))
        for i in range(0, len(x), BATCH)
    ]
    operator = EKFACLinearOperator(
        OfPair(case.denoiser.module),
        nn.MSELoss(),
        case.parameters,
        data,
        fisher_type="mc",
        separate_weight_and_bias=True,
        check_deterministic=False,
        batch_size_fn=lambda given: len(given["x"]),
    )
    inverse = KFACInverseLinearOperator(operator, damping=DAMPING, use_exact_damping=True)
    rows = gradients(case, slice(0, case.queries))
    columns = inverse @ [g.movedim(0, -1).contiguous() for g in rows]
    kept = torch.cat([c.movedim(-1, 0).flatten(1) for c in columns], 1)
    found = []
    for start in range(0, len(x), FEW):
        part = gradients(case, slice(start, start + FEW))
        found.append(kept @ torch.cat([g.flatten(1) for g in part], 1).T)
    return torch.cat(found, 1).detach().numpy()


def dattri(case: Case) -> np.ndarray:
    """Products of gradients, no curvature."""
    from dattri.algorithm.tracin import TracInAttributor
    from dattri.task import AttributionTask

    module = case.denoiser.module

    def loss(weights, batch):  # type: ignore[no-untyped-def]
        x, t, noise = batch
        output = torch.func.functional_call(module, weights, (x[None], t[None])).sample
        return (output[0] - noise).square().mean()

    state = {n: p.detach() for n, p in module.named_parameters()}
    attributor = TracInAttributor(AttributionTask(loss, module, [state]), torch.ones(1), False)
    attributor.projector_kwargs = None  # else a random projection comes between
    train = torch.utils.data.TensorDataset(*case.data)
    asked = torch.utils.data.TensorDataset(*(v[: case.queries] for v in case.data))
    loaders = [torch.utils.data.DataLoader(d, batch_size=BATCH) for d in (train, asked)]
    return attributor.attribute(*loaders).T.detach().numpy()


def dot_products(case: Case) -> np.ndarray:
    """The same products by this package."""
    layers = covered_layers(case.denoiser.module, norms=True)
    return scored(case, {layer.name: {} for layer in layers}, Variant("gradient_dot"), norms=True)


RIVALS: dict[str, Callable[[Case], np.ndarray]] = {
    "begat": begat,
    "kronfluence": kronfluence,
    "curvlinops": curvlinops,
    "begat dot products": dot_products,
    "dattri dot products": dattri,
}
