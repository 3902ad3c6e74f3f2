"""Networks so small that their curvature can be written down, and draws to evaluate them on."""

import torch
from torch import nn

from begat.diffusion.denoisers import Denoiser
from begat.diffusion.draws import Draws
from begat.diffusion.schedules import cosine_schedule
from begat.influence.gradient_source import ImageSet

SCHEDULE = cosine_schedule(50)


def forward(module, x, t, label):
    return module(x)


def denoiser(module, prediction="epsilon"):
    return Denoiser(module.double(), SCHEDULE, prediction, forward=forward)


def seeded(build):
    """A module whose weights are drawn the same every time."""
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        return build().double()


def random_tensor(*shape, seed=0):
    """Normal random numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def random_convolution(module, size, examples=6):
    """A convolution, images and gradients of its output."""
    module = seeded(lambda: module)
    activation = random_tensor(examples, module.in_channels, *size)
    return module, activation, random_tensor(*module(activation).shape, seed=1)


def image_set(images, shape=(1, 2, 2), first=0):
    generator = torch.Generator().manual_seed(first + 1)
    pixels = torch.randn(images, *shape, generator=generator, dtype=torch.float64).numpy()
    return ImageSet(pixels, None, range(first, first + images))


def draws(number, shape=(1, 2, 2), seed=0):
    """Independent draws of each image's own."""

    def sampler(images):
        timestep, noise = [], []
        for i in images:
            generator = torch.Generator().manual_seed(1000 * seed + i)
            timestep.append(torch.randint(50, (number,), generator=generator))
            noise.append(torch.randn(number, *shape, generator=generator, dtype=torch.float64))
        flip = torch.zeros(len(images), number, dtype=torch.bool)
        return Draws(torch.stack(timestep), torch.stack(noise), flip)

    return sampler


def for_every_pixel(draws):
    """Each draw once per output dimension: ``every_pixel`` then takes eta's mean exactly."""

    def sampler(images):
        single = draws(images)
        times = single.noise[0, 0].numel()
        return Draws(
            single.timestep.repeat_interleave(times, 1),
            single.noise.repeat_interleave(times, 1),
            single.flip.repeat_interleave(times, 1),
        )

    return sampler


def every_pixel(block, output):
    """sqrt(2/D) eta with eta = sqrt(D) e_k, k over all dimensions: mean of eta eta^T = 1."""
    n = output.dimensions
    unit = torch.eye(n, dtype=output.output.dtype) * 2**0.5
    per_image = unit[torch.arange(block.span.start, block.span.stop) % n]
    return per_image.repeat(len(block.ids), 1).view_as(output.output)


class Flat(nn.Module):
    """Layers on the pixels as one vector."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x.flatten(1)).view_as(x)


class Features(nn.Module):
    """A linear layer on fixed features of the noisy image."""

    def __init__(self, features, pixels):
        super().__init__()
        self.layer = nn.Linear(features, pixels, bias=False)
        generator = torch.Generator().manual_seed(5)
        self.mix = torch.randn(pixels, features, generator=generator, dtype=torch.float64)

    def features(self, x):
        return torch.tanh(x.flatten(1) @ self.mix)

    def forward(self, x):
        return self.layer(self.features(x)).view_as(x)


class Buckets(Features):
    """Its features are never two at a time different from 0, so all curvatures are diagonal."""

    def features(self, x):
        bucket = (x.flatten(1).sum(1).abs() * 3).long() % self.layer.in_features
        return nn.functional.one_hot(bucket, self.layer.in_features).to(x) * (
            1 + x[:, 0, 0, :1] ** 2
        )


def gauss_newton(module, inputs):
    """(2/D) Jac^T Jac, mean over inputs, in all parameters flattened in their own order."""
    names = [n for n, _ in module.named_parameters()]
    values = [p.detach() for p in module.parameters()]

    def output(*parameters, x):
        return torch.func.functional_call(
            module, dict(zip(names, parameters, strict=True)), (x,)
        ).flatten()

    total = 0.0
    for x in inputs:
        jac = torch.func.jacrev(lambda *v, x=x: output(*v, x=x[None]), tuple(range(len(values))))(
            *values
        )
        flat = torch.cat([j.flatten(1) for j in jac], 1)
        total = total + 2 / len(flat) * flat.T @ flat
    return total / len(inputs)


def noisy(draws, images):
    """The noisy images of a set under its draws, and their noise."""
    from begat.diffusion.schedules import diffuse

    sampled = draws(images.ids)
    clean = torch.from_numpy(images.pixels).repeat_interleave(sampled.count, 0)
    t, noise = sampled.timestep.flatten(), sampled.noise.flatten(0, 1)
    return diffuse(SCHEDULE, clean, t, noise), noise
