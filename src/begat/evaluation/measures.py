"""What scores are measured in, and so what may be read from one: its size, its sign, its rank."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Measure:
    """What a method's scores are measured in.

    Attributes:
        unit: of the number, in words.
        signed: the sign says whether the training image or group helped or harmed.
        calibrated: the size is that of a measured difference, not of an estimate or a product.
    """

    unit: str
    signed: bool = False
    calibrated: bool = False

    @property
    def centred(self) -> "Measure":
        """The same less a mean over images or queries, so that only comparisons are left."""
        return replace(self, unit=f"{self.unit}, less a mean", signed=False)


LOSS = Measure("squared noise error per pixel, without minus with", signed=True, calibrated=True)
NATS = Measure("nats of negative ELBO, without minus with", signed=True, calibrated=True)
FIRST_ORDER = Measure("squared noise error per pixel, estimated to first order", signed=True)
GRADIENT_PRODUCT = Measure("product of gradients", signed=True)
STEP_PRODUCT = Measure("product of gradients, times the learning rate", signed=True)
NORMALISED_PRODUCT = Measure(
    "product of gradients, images' of length 1, times the learning rate", signed=True
)
KERNEL_WEIGHT = Measure("kernel regression weight", signed=True)
UNSIGNED_KERNEL_WEIGHT = replace(KERNEL_WEIGHT, signed=False)
WEIGHTED_LOSS = Measure("squared kernel regression weight, times a loss")
COSINE = Measure("cosine, -1 to 1")
SIMILARITY = Measure("Gaussian kernel of pixel distance, 0 to 1")
NEGATIVE_DISTANCE = Measure("minus the RMS pixel difference")
