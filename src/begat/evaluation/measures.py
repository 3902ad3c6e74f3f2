"""Units of scores, and whether their sign and size are meaningful."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Measure:
    """Unit of a method's scores, and the meaning of their sign and size.

    Attributes:
        unit: in words.
        signed: positive scores mean that the unit helped, negative that it harmed.
        calibrated: scores are measured differences, not estimates or products.
    """

    unit: str
    signed: bool = False
    calibrated: bool = False

    @property
    def centred(self) -> "Measure":
        """Returns the measure of scores minus their mean over images or queries: order only."""
        return replace(self, unit=f"{self.unit}, minus a mean", signed=False)


LOSS = Measure("squared noise error per pixel, without minus with", signed=True, calibrated=True)
NATS = Measure("nats of negative ELBO, without minus with", signed=True, calibrated=True)
FIRST_ORDER = Measure("squared noise error per pixel, estimated to first order", signed=True)
GRADIENT_PRODUCT = Measure("product of gradients", signed=True)
STEP_PRODUCT = Measure("product of gradients, times the learning rate", signed=True)
NORMALISED_PRODUCT = Measure(
    "product of gradients, the image's scaled to length 1, times the learning rate", signed=True
)
KERNEL_WEIGHT = Measure("kernel regression weight", signed=True)
UNSIGNED_KERNEL_WEIGHT = replace(KERNEL_WEIGHT, signed=False)
WEIGHTED_LOSS = Measure("squared kernel regression weight, times a loss")
COSINE = Measure("cosine, -1 to 1")
SIMILARITY = Measure("Gaussian kernel of pixel distance, 0 to 1")
NEGATIVE_DISTANCE = Measure("minus the RMS pixel difference")
JOINED = Measure("sum of scores, each divided by its standard deviation over the units")
