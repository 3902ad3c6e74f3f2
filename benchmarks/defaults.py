"""Defaults on several data sets and seeds: agreement with real retraining, as tables.

    python benchmarks/datasets.py fashion       # and emoji, see there
    OMP_NUM_THREADS=1 python benchmarks/defaults.py unlearning params.yaml params/fashion.yaml
    OMP_NUM_THREADS=1 python benchmarks/defaults.py gradients params/emoji.yaml --seeds 0 1 2

For every parameter file and root seed this trains two full models, two models without each group
(one paired with the full model that is looked into, one independent of it) and models on random
halves of the groups, once; they are kept in ``.begat/defaults``. Then each setting makes scores of
the groups of 64 queries, which are held against the *independent* leave-one-group-out models
(top-1, Spearman) and against the halves (LDS). Settings are chosen on the first seed and reported
on the others.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from begat.diffusion.image_draws import common_draws, own_draws

from begat.data import datasets
from begat.diffusion.denoisers import Denoiser, unet_denoiser
from begat.diffusion.measurement import measure
from begat.diffusion.model_training import ModelRun, train
from begat.diffusion.noise_predictors import PackPredictor
from begat.diffusion.packed_network import PackedNetwork
from begat.diffusion.pixels import to_model_range
from begat.diffusion.query_images import generate
from begat.diffusion.training_batches import TrainingImages
from begat.diffusion.training_config import OptimiserConfig, TrainingConfig
from begat.errors import BegatError
from begat.evaluation.pixel_similarity import similarity
from begat.evaluation.ranking_metrics import top1
from begat.evaluation.statistics import lds, removed_sum, spearman
from begat.execution.architecture import config_of
from begat.execution.networks import schedule_of
from begat.influence import scores
from begat.influence import trak as trak_scores
from begat.influence.factors import factors
from begat.influence.gradients import Sample
from begat.planning.plan import specify
from begat.stages.unlearned import Unlearned
from begat.unlearning.batches import ForgetGroup
from begat.unlearning.config import UnlearningConfig
from begat.unlearning.operators import parse_operator
from begat.unlearning.unlearn import fine_tuning, unlearn

ROOT, CPU = Path.cwd(), torch.device("cpu")
QUERIES, DRAWS, HALVES, PACK = 64, 64, 12, 12
Scores = np.ndarray  # [query, group]


@dataclass
class Case:
    """A parameter file under one root seed, and the models retrained for it."""

    file: str
    seed: int

    def __post_init__(self) -> None:
        self.request = specify(ROOT, self.file)
        self.params, dataset = self.request.params, self.request.dataset
        self.pixels = np.stack(list(datasets.pixels(dataset, self.params.images)))
        groups = range(len(dataset.groups))
        self.member_of = np.array([[g in of for of in dataset.membership] for g in groups])
        self.config, self.schedule = config_of(self.request), schedule_of(self.request)
        prediction, training = self.params.diffusion.prediction_type, self.params.models
        self.network = PackedNetwork(self.config, self.schedule, prediction, CPU)
        self.images = TrainingImages(self.pixels, None, training.random_flip)
        names = [
            "max_train_steps",
            "learning_rate",
            "warmup_steps",
            "max_grad_norm",
            "weight_decay",
            "ema_decay",
        ]
        self.optimiser = OptimiserConfig(*(getattr(training, name) for name in names))

    @cached_property
    def halves(self) -> np.ndarray:
        """Distinct random halves of the groups, as ``[half, group]``: what is kept."""
        generator, groups = np.random.default_rng(1000 + self.seed), len(self.member_of)
        found: dict[tuple[int, ...], None] = {}
        while len(found) < (HALVES if groups > 5 else 6):
            half = tuple(sorted(generator.permutation(groups)[: groups // 2].tolist()))
            found.setdefault(half)
        return np.array([[g in half for g in range(groups)] for half in found])

    def recipes(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """Every model's name, stream and training images."""
        everything = np.ones(len(self.pixels), bool)
        for seed in (0, 1):
            yield f"full-{seed}", f"full-{seed}", everything
        for group, members in enumerate(self.member_of):
            for seed in (0, 1):
                yield f"logo-{group}-{seed}", f"full-{seed}", ~members
        seeds = 1 if len(self.halves) == HALVES else 2  # few halves: more trainings of each
        for number, kept in enumerate(self.halves):
            for seed in range(seeds):
                name = f"half-{number}-{seed}"
                yield name, name, self.member_of[kept].any(0)

    @cached_property
    def retrained(self) -> dict[str, np.ndarray]:
        """The full model's weights, its queries, and the losses of all models on them."""
        file = ROOT / ".begat" / "defaults" / f"{Path(self.file).stem}-{self.seed}.npz"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            np.savez(file, **self._retrain())
        with np.load(file) as stored:
            return dict(stored)

    def _retrain(self) -> dict[str, np.ndarray]:
        recipes = list(self.recipes())
        rows = []
        for start in range(0, len(recipes), PACK):
            models = [ModelRun(*recipe) for recipe in recipes[start : start + PACK]]
            batch_size, dropout = (self.params.models.batch_size, self.params.models.dropout)
            training = TrainingConfig(self.optimiser, batch_size, dropout)
            states = train(self.images, models, self.network, training, seed=self.seed)
            for _, state in states:  # noqa: B007
                pass
            rows.append(state()["ema_weights"])
        weights = np.concatenate(rows)
        queries = generate(
            self.predictor(weights[:1]),
            range(QUERIES),
            seed=self.seed,
            scheduler=self.params.queries.scheduler,
            num_inference_steps=self.params.queries.num_inference_steps,
            clip_sample=self.params.queries.clip_sample,
        )["pixels"]
        return {"full": weights[0], "queries": queries, "loss": self.losses(weights, queries)}

    def predictor(self, rows: np.ndarray) -> PackPredictor:
        prediction = self.params.diffusion.prediction_type
        return PackPredictor(torch.from_numpy(rows), self.config, self.schedule, prediction, CPU)

    def losses(self, rows: np.ndarray, queries: np.ndarray) -> np.ndarray:
        """``[model, query, draw]``."""
        label = np.full(len(queries), -1)
        how = dict(seed=self.seed, draws=DRAWS, gram=False)
        return measure(self.predictor(rows), queries, label, range(len(queries)), **how)["loss"]

    @cached_property
    def loss(self) -> dict[str, np.ndarray]:
        """Every retrained model's loss ``[query]``."""
        means = self.retrained["loss"].astype(np.float64).mean(-1)
        return {name: row for (name, _, _), row in zip(self.recipes(), means, strict=True)}

    @cached_property
    def denoiser(self) -> Denoiser:
        """The full model, looked into."""
        row, prediction = torch.from_numpy(self.retrained["full"]), self.network.prediction_type
        return unet_denoiser(row, self.config, self.schedule, prediction, CPU)

    @cached_property
    def samples(self) -> tuple[Sample, Sample]:
        """Training images and queries."""
        total, queries = len(self.pixels), self.retrained["queries"].astype(np.float32)
        numbers = range(total, total + len(queries))
        return Sample(self.pixels, None, range(total)), Sample(queries, None, numbers)

    @cached_property
    def curvature(self) -> Any:
        """The factors of the full model."""
        images, _ = self.samples
        return factors(self.denoiser, images, self.member_of, seed=self.seed, draws=4)

    def left_out(self, seed: int) -> Scores:
        """Real leave-one-group-out: paired with the full model that is looked into, or not."""
        groups = range(len(self.member_of))
        full = self.loss[f"full-{seed}"]
        return np.stack([self.loss[f"logo-{g}-{seed}"] - full for g in groups], 1)

    def agreement(self, score: Scores) -> tuple[float, float, float]:
        """Top-1 and Spearman against independent leave-one-group-out, LDS on the halves."""
        truth = self.left_out(1)
        halves = [
            [loss for name, loss in self.loss.items() if name.startswith(f"half-{n}-")]
            for n in range(len(self.halves))
        ]
        predicted = removed_sum(score.astype(np.float64), (~self.halves).astype(np.float64))
        return (
            float(top1(score, truth).mean()),
            float(spearman(score, truth).mean()),
            float(lds(predicted, np.array(halves)).mean()),
        )


Setting = Callable[[Case], Scores]


def unlearned(
    steps: float, learning_rate: float, operator: str = "retain_only", **settings: Any
) -> Setting:
    """Scores by unlearning, for fractions of the training's steps and learning rate."""

    def score(case: Case) -> Scores:
        groups = [ForgetGroup(str(g), "unlearned", m) for g, m in enumerate(case.member_of)]
        config = UnlearningConfig(
            fine_tuning(case.optimiser, steps, learning_rate, max_grad_norm=1.0),
            case.params.of(Unlearned).batch_size,
            parse_operator({"name": operator}),
            **settings,
        )
        full = case.retrained["full"]
        states = unlearn(case.images, groups, full, case.network, config, seed=case.seed)
        for _, state in states:  # noqa: B007
            pass
        loss = case.losses(state()["weights"], case.retrained["queries"]).astype(np.float64)
        return loss.mean(-1).T - case.loss["full-0"][:, None]

    return score


DISTILLED = dict(operator="posterior_mean", retain_loss="distil")
UNLEARNING: dict[str, Setting] = {
    "retained only, 1/4 of the steps, 1/4 of the rate": unlearned(1 / 4, 1 / 4),
    "… 1/4, 1/2": unlearned(1 / 4, 1 / 2),
    "… 1/8, 1/2": unlearned(1 / 8, 1 / 2),
    "… 1/4, 1": unlearned(1 / 4, 1.0),
    "… 1/2, 1/2": unlearned(1 / 2, 1 / 2),
    "posterior mean, 10 of 800 steps, 1/7, distilled": unlearned(1 / 80, 1 / 7, **DISTILLED),
    "… 50 of 800": unlearned(1 / 16, 1 / 7, **DISTILLED),
    "… 1/8, 1/4, denoised": unlearned(1 / 8, 1 / 4, operator="posterior_mean"),
    "… 1/4, 1/2, denoised": unlearned(1 / 4, 1 / 2, operator="posterior_mean"),
}


OPERATORS: dict[str, Setting] = {
    name: unlearned(1 / 4, 1 / 4, operator=name)
    for name in ("posterior_mean", "retrack", "swap", "noise", "ascent", "siss", "salun", "ewc")
}


def trak(method: str, draws: int, damping: float) -> Setting:
    """Scores of the TRAK family, summed over groups."""

    def score(case: Case) -> Scores:
        shape, times = case.pixels.shape[1:], case.schedule.timesteps
        drawn = common_draws(case.seed, "scores_trak", draws, times, shape)
        what = case.denoiser, *case.samples, drawn, method, [damping]
        return trak_scores.score(*what, seed=case.seed)[0].astype(np.float64) @ case.member_of.T

    return score


def ekfac(draws: int, dampings: list[float], *, shared: bool = True) -> Setting:
    """Scores by EK-FAC influence, summed over groups; of several dampings the halves' choice."""

    def score(case: Case) -> Scores:
        wanted = [scores.Variant("ekfac", "mean_eigenvalue", d) for d in dampings]
        shape, times = case.pixels.shape[1:], case.schedule.timesteps
        deal = common_draws if shared else own_draws
        drawn = deal(case.seed, "scores_influence", draws, times, shape)
        found = scores.score(case.denoiser, case.curvature, *case.samples, drawn, wanted)
        (chosen,) = np.flatnonzero(found["chosen"])
        return found["score"][chosen].astype(np.float64) @ case.member_of.T

    return score


GRID = [1e-4, 1e-3, 1e-2, 1e-1]
GRADIENTS: dict[str, Setting] = {
    "EK-FAC, 16 shared draws, damping by halves": ekfac(16, GRID),
    "… 1e-4": ekfac(16, [1e-4]),
    "… 1e-1": ekfac(16, [1e-1]),
    "… 4 shared draws": ekfac(4, GRID),
    "… 16 draws of each image's own": ekfac(16, GRID, shared=False),
    "D-TRAK, 10 draws, damping .1": trak("dtrak", 10, 0.1),
    "… damping .01": trak("dtrak", 10, 0.01),
    "… damping 1": trak("dtrak", 10, 1.0),
    "… 4 draws": trak("dtrak", 4, 0.1),
    "TRAK, 10 draws, damping .1": trak("trak", 10, 0.1),
    "… damping .01 ": trak("trak", 10, 0.01),
    "… damping 1 ": trak("trak", 10, 1.0),
}


def pixels(case: Case) -> Scores:
    images, queries = to_model_range(case.pixels.astype(np.float64)), case.retrained["queries"]
    found = similarity(queries, images, np.arange(len(images)))
    return found[0] @ case.member_of.T


SETTINGS = {"unlearning": UNLEARNING, "operators": OPERATORS, "gradients": GRADIENTS}
BASELINES: dict[str, Setting] = {
    "another training": lambda case: case.left_out(0),
    "pixels": pixels,
}


def table(cases: dict[str, list[Case]], settings: dict[str, Setting]) -> None:
    """A row for each setting, three figures per seed, CPU seconds over retraining's."""
    for file, of_seeds in cases.items():
        heads = " | ".join(f"seed {case.seed}" for case in of_seeds)
        print(f"\n{file}\n\n| setting | {heads} | CPU s |\n|---|{'---|' * (len(of_seeds) + 1)}")
        for name, setting in {**BASELINES, **settings}.items():
            cells, started = [], time.process_time()
            for case in of_seeds:
                try:
                    figures = case.agreement(setting(case))
                except BegatError:  # a model that diverges
                    cells.append("diverges")
                else:
                    cells.append(" / ".join(f"{figure:.2f}" for figure in figures))
            spent = (time.process_time() - started) / len(of_seeds)
            print(f"| {name.strip()} | {' | '.join(cells)} | {spent:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Hold defaults against real retraining.")
    parser.add_argument("settings", choices=list(SETTINGS))
    parser.add_argument("files", nargs="+", help="parameter files, such as params.yaml")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases = {file: [Case(file, seed) for seed in arguments.seeds] for file in arguments.files}
    table(cases, SETTINGS[arguments.settings])


if __name__ == "__main__":
    main()
