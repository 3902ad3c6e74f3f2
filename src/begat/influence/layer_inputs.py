"""Inputs and output gradients of a layer as rows, one for each position of each example."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Seen = Float[Tensor, "example position feature_in"]
Returned = Float[Tensor, "example position feature_out"]


def inputs_of(module: nn.Module, seen: Tensor) -> Seen:
    """``a``: patches of a convolution, tokens of a linear layer, a norm's normalised input."""
    if isinstance(module, nn.Conv2d):
        return patches(module, seen)
    if isinstance(module, nn.GroupNorm):
        seen = F.group_norm(seen, module.num_groups, eps=module.eps)
    elif isinstance(module, nn.LayerNorm):
        seen = F.layer_norm(seen, module.normalized_shape, eps=module.eps)
    return outputs_of(module, seen)


def outputs_of(module: nn.Module, gradient: Tensor) -> Returned:
    """Features last, positions in the middle."""
    if isinstance(module, nn.Conv2d | nn.GroupNorm):
        return gradient.flatten(2).transpose(1, 2) if gradient.ndim > 2 else gradient[:, None]
    if isinstance(module, nn.LayerNorm):
        gradient = gradient.flatten(-len(module.normalized_shape))
    return gradient.reshape(len(gradient), -1, gradient.shape[-1])


def patches(module: nn.Conv2d, image: Float[Tensor, "example channel y x"]) -> Seen:
    """What each output pixel of a convolution sees, in the order (ky, kx, channel)."""
    (step_y, step_x), (apart_y, apart_x) = module.stride, module.dilation
    (kernel_y, kernel_x), (top, left) = module.kernel_size, padding(module)
    if (kernel_y, kernel_x, step_y, step_x, top, left) == (1, 1, 1, 1, 0, 0):
        return image.flatten(2).transpose(1, 2)
    batch, channels, height, width = image.shape
    padded = image.new_zeros(batch, height + 2 * top, width + 2 * left, channels)
    padded[:, top : top + height, left : left + width] = image.permute(0, 2, 3, 1)
    out_y = (padded.shape[1] - apart_y * (kernel_y - 1) - 1) // step_y + 1
    out_x = (padded.shape[2] - apart_x * (kernel_x - 1) - 1) // step_x + 1
    of_batch, of_y, of_x, of_channel = padded.stride()
    windows = padded.as_strided(
        (batch, out_y, out_x, kernel_y, kernel_x, channels),
        (of_batch, of_y * step_y, of_x * step_x, of_y * apart_y, of_x * apart_x, of_channel),
    )
    return windows.reshape(batch, out_y * out_x, -1)


def padding(module: nn.Conv2d) -> tuple[int, int]:
    """Zeros above and to the left; a covered convolution has numbers, no words, for them."""
    assert not isinstance(module.padding, str)
    top, left = module.padding
    return top, left
