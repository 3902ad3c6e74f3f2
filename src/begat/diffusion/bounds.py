"""Bounds on what one network call takes, and on what is in memory at a time. Needs no torch.

They are a matter of speed, memory and rounding only.
"""

BATCH = 512  # images per call of a trained network
MAX_EXAMPLES = 256  # examples (images under one draw each) per call that takes gradients
MAX_TAPE_NUMBERS = 2**25  # numbers on a tape, unless one example has more: 128 MiB of float32
MAX_GRADIENT_NUMBERS = 2**24  # numbers of gradients by image held at a time: 64 MiB of float32
MAX_CENTRE_IMAGES = 512  # images whose mean gradient stands for that of all
