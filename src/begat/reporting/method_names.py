"""Labels, descriptions and display order of scoring methods, baselines and the ground truth."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

BASELINES = {  # rows of the tables of agreement that are no scoring method
    "another_training": (
        "another training",
        "a second ground truth, retrained with another seed: retraining noise limits its agreement "
        "with the first",
    ),
    "random": ("random", "random numbers: the level of chance"),
    "joined_stacked": (
        "joined, stacked",
        "a sum of scores with weights fitted to other queries and other retrained models",
    ),
    "group_size": (
        "group size",
        "the number of images in the group; uses neither a model nor the query",
    ),
    "query_independent": (
        "same for every query",
        "mean ground truth of all other queries, from trainings with another seed; does not depend "
        "on this query",
    ),
}
GROUND_TRUTH = "logo_retrained"  # mean over all models retrained without a group
RETRAINED = "logo_"  # prefix of every method whose scores come from retraining
PIXELS = "pixel_"  # prefix of every method that uses no model
SUMMED = "_summed"  # suffix of group scores that are sums of image scores, beside others


@runtime_checkable
class Declared(Protocol):
    """The declaration of a scoring method, as far as the report reads it."""

    @property
    def label(self) -> str:
        """Its name for readers."""

    @property
    def description(self) -> str:
        """What its scores are, in one sentence."""

    @property
    def headline(self) -> bool:
        """Whether tables show it first; the others are its variants."""


class MethodNames:
    """Labels, descriptions and order of the methods that stages declare, and of the baselines."""

    def __init__(self, declared: Mapping[str, Declared]) -> None:
        """Store the declarations, by name of the method, in their order."""
        self._declared = declared
        self._place = {name: place for place, name in enumerate(declared)}

    def is_headline(self, method: str) -> bool:
        """Returns whether tables show a method first, and conclusions count it."""
        return method in self._declared and self._declared[method].headline

    def label(self, method: str) -> str:
        """Returns the name of a method for readers."""
        return self._words(method)[0]

    def description(self, method: str) -> str:
        """Returns what a method's scores are, in one sentence; empty if it is not declared."""
        return self._words(method)[1]

    def row(self, method: str) -> dict[str, Any]:
        """Returns the cells that begin a table's row: name, label, description, headline."""
        label, description = self._words(method)
        headline = self.is_headline(method)
        return dict(method=method, label=label, description=description, headline=headline)

    def ordered(self, methods: Iterable[str]) -> list[str]:
        """Returns ground truth, then headline methods, then their variants, then baselines."""

        def place(method: str) -> tuple[int, int]:
            part = 0 if method == GROUND_TRUTH else 3 if method in BASELINES else 2
            part = 1 if part == 2 and self.is_headline(method) else part
            return part, self._place.get(method.removesuffix(SUMMED), len(self._place))

        return sorted(methods, key=place)

    def _words(self, method: str) -> tuple[str, str]:
        if method in self._declared:
            return self._declared[method].label, self._declared[method].description
        if method.endswith(SUMMED):
            label, description = self._words(method.removesuffix(SUMMED))
            return f"{label}, images summed", f"{description}; image scores summed over the group"
        return BASELINES.get(method, (method.replace("_", " "), ""))
