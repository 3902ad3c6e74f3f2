"""Inputs and output gradients of a layer as matrices, a row for each position of an example."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Activations = Float[Tensor, "example position feature_in"]
OutputGradients = Float[Tensor, "example position feature_out"]


def layer_inputs(module: nn.Module, activation: Tensor) -> Activations:
    """Returns ``a``: patches of a convolution, tokens of a linear layer, normalised input."""
    if isinstance(module, nn.Conv2d):
        return unfold(module, activation)
    if isinstance(module, nn.GroupNorm):
        activation = F.group_norm(activation, module.num_groups, eps=module.eps)
    elif isinstance(module, nn.LayerNorm):
        activation = F.layer_norm(activation, module.normalized_shape, eps=module.eps)
    return output_gradients(module, activation)


def output_gradients(module: nn.Module, gradient: Tensor) -> OutputGradients:
    """Returns ``b``: features last, positions before them."""
    if isinstance(module, nn.Conv2d | nn.GroupNorm):
        return gradient.flatten(2).transpose(1, 2) if gradient.ndim > 2 else gradient[:, None]
    if isinstance(module, nn.LayerNorm):
        gradient = gradient.flatten(-len(module.normalized_shape))
    return gradient.reshape(len(gradient), -1, gradient.shape[-1])


def unfold(module: nn.Conv2d, image: Float[Tensor, "example channel y x"]) -> Activations:
    """Returns the patch of each output pixel of a convolution, in the order (ky, kx, channel)."""
    (step_y, step_x), (dilation_y, dilation_x) = module.stride, module.dilation
    (kernel_y, kernel_x), (top, left) = module.kernel_size, padding(module)
    if (kernel_y, kernel_x, step_y, step_x, top, left) == (1, 1, 1, 1, 0, 0):
        return image.flatten(2).transpose(1, 2)
    batch, channels, height, width = image.shape
    padded = image.new_zeros(batch, height + 2 * top, width + 2 * left, channels)
    padded[:, top : top + height, left : left + width] = image.permute(0, 2, 3, 1)
    out_y = (padded.shape[1] - dilation_y * (kernel_y - 1) - 1) // step_y + 1
    out_x = (padded.shape[2] - dilation_x * (kernel_x - 1) - 1) // step_x + 1
    s_example, s_y, s_x, s_channel = padded.stride()
    windows = padded.as_strided(
        (batch, out_y, out_x, kernel_y, kernel_x, channels),
        (s_example, s_y * step_y, s_x * step_x, s_y * dilation_y, s_x * dilation_x, s_channel),
    )
    return windows.reshape(batch, out_y * out_x, -1)


def padding(module: nn.Conv2d) -> tuple[int, int]:
    """Returns the zeros above and to the left; a tracked convolution has no padding by name."""
    assert not isinstance(module.padding, str)
    top, left = module.padding
    return top, left
