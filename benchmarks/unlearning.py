"""Cost of unlearning: all groups in one pack or one at a time, and compared with retraining.

``OMP_NUM_THREADS=1 python benchmarks/unlearning.py`` takes two minutes on one CPU thread.
Times are CPU seconds of this process, medians over rounds in which everything takes its turn. A
run's time is that of a few steps times their number.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits

from begat.diffusion.measurement import measure
from begat.diffusion.model_training import ModelRun, train
from begat.diffusion.noise_predictors import PackPredictor
from begat.diffusion.packed_network import PackedNetwork
from begat.diffusion.parameter_rows import flatten, stack
from begat.diffusion.schedules import cosine_schedule
from begat.diffusion.training_batches import TrainingImages
from begat.diffusion.training_config import OptimiserConfig, TrainingConfig
from begat.diffusion.unet import UNetConfig, initial_weights
from begat.unlearning.batches import ForgetGroup
from begat.unlearning.config import UnlearningConfig
from begat.unlearning.unlearn import unlearn

CONFIGS = {
    "demo": UNetConfig(8, 1, (8, 16), 1, (False, False), False, 8, 8),
    "with attention": UNetConfig(8, 1, (16, 32), 1, (False, True), False, 8, 8),
}
SCHEDULE, BATCH_SIZE = cosine_schedule(1000), 16
LOGO_STEPS, QUERIES, DRAWS, PROBE, ROUNDS = 800, 64, 64, 10, 5
SHORT = (200, 100)  # steps of forgetting: the default share of the training's, and half of it


@dataclass(frozen=True)
class Setting:
    """The numbers that a cost follows from; batches count images of one kind."""

    groups: int
    retrain_steps: float
    retrain_batch: int
    unlearn_steps: float
    unlearn_batch: int
    trained: int
    looked: float
    queries: int
    draws: int


def passes(setting: Setting) -> dict[str, float]:
    """Forward passes of one image, a backward pass counted as two.

    A step of forgetting trains on ``trained`` batches, one retained and for most operators one
    forgotten, and looks at ``looked`` more without gradients: where only curves depend on it,
    every fifth step at the forgotten one and, for the full model, at both.
    """
    each = setting.unlearn_batch * (3 * setting.trained + setting.looked)
    return {
        "retraining": 3.0 * setting.groups * setting.retrain_steps * setting.retrain_batch,
        "unlearning": setting.groups * setting.unlearn_steps * each,
        "scoring": float(setting.queries * setting.draws * (setting.groups + 1)),
    }


LOOKED = 0.44  # ten groups of one stream share nearly all retained images
# arXiv 2601.22651: 2,400 epochs of 45,000 images; 30 passes over 5,000 forgotten images
PUBLISHED = Setting(10, 2400 * 45_000 / 256, 256, 30 * 39, 128, 2, 1, 2048, 399)
HERE = Setting(10, 2400 * 45_000 / 256, 256, 600 * 45_000 / 256, 256, 1, LOOKED, 2048, 399)
PUBLISHED_MINUTES = {"retraining": 206 * 60 + 52, "unlearning": 67, "scoring": 55}


def spent(work) -> float:
    """CPU seconds of some work."""
    start = time.process_time()
    work()
    return time.process_time() - start


def forgetting(config, pixels, groups, row, steps):
    """Forget these groups in one pack."""
    members = [ForgetGroup(str(i), "one", mask) for i, mask in enumerate(groups)]
    network = PackedNetwork(config, SCHEDULE, "v_prediction")
    unlearning = UnlearningConfig(OptimiserConfig(steps, 3.5e-3, 1, 1.0), BATCH_SIZE)
    for _ in unlearn(TrainingImages(pixels), members, row, network, unlearning, seed=0):
        pass


def retraining(config, pixels, groups, steps):
    """Retrain without these groups in one pack."""
    models = [ModelRun(str(i), "one", mask) for i, mask in enumerate(~groups)]
    network = PackedNetwork(config, SCHEDULE, "v_prediction")
    training = TrainingConfig(OptimiserConfig(steps, 7e-3, 50, 1.0, 0.01, 0.99), BATCH_SIZE)
    for _ in train(TrainingImages(pixels), models, network, training, seed=0):
        pass


def measured(config):
    """CPU seconds of a step of each kind and of scoring; single over pack."""
    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    groups = np.stack([digits.target == k for k in range(10)])
    start = initial_weights(config, torch.Generator().manual_seed(0))
    row = flatten(stack([start]))[0].numpy()
    queries = np.zeros((QUERIES, 1, 8, 8), np.float32)

    def scoring(queries):
        rows = torch.from_numpy(row)[None].repeat(11, 1)
        predictor = PackPredictor(rows, config, SCHEDULE, "v_prediction", torch.device("cpu"))
        how = dict(seed=0, draws=DRAWS, gram=False)
        measure(predictor, queries, np.full(len(queries), -1), range(len(queries)), **how)

    def one_by_one():
        for k in range(0, 10, 3):
            forgetting(config, pixels, groups[[k]], row, PROBE)

    work = {
        "packed": (lambda: forgetting(config, pixels, groups, row, PROBE), PROBE),
        "single": (one_by_one, PROBE * 0.4),
        "retrained": (lambda: retraining(config, pixels, groups, PROBE), PROBE),
        "scored": (lambda: scoring(queries), 1),
    }
    scoring(queries[:1])
    one_by_one()  # the first call of anything is slow
    rounds = [{n: spent(do) / count for n, (do, count) in work.items()} for _ in range(ROUNDS)]
    cost = {name: float(np.median([each[name] for each in rounds])) for name in work}
    return cost, float(np.median([each["single"] / each["packed"] for each in rounds]))


def main() -> None:
    torch.set_num_threads(1)
    for name, config in CONFIGS.items():
        cost, ratio = measured(config)
        print(f"{name}: a step of forgetting ten groups [CPU ms]")
        print(f"  one at a time {cost['single'] * 1e3:8.0f}")
        print(f"  in one pack   {cost['packed'] * 1e3:8.0f}   {ratio:.1f} times less")
        truth = cost["retrained"] * LOGO_STEPS + cost["scored"]
        print(f"  retraining without ten groups and scoring: {truth:.1f} CPU s")
        whole = passes(Setting(10, LOGO_STEPS, 16, 0, 16, 1, LOOKED, QUERIES, DRAWS))
        for steps in SHORT:
            found = cost["packed"] * steps, cost["scored"]
            counted = passes(Setting(10, LOGO_STEPS, 16, steps, 16, 1, LOOKED, QUERIES, DRAWS))
            short = counted["unlearning"] + counted["scoring"]
            print(
                f"  forgetting in {steps} steps {found[0]:5.1f}, scoring {found[1]:4.1f}: "
                f"{truth / sum(found):.1f} times less; "
                f"by passes {sum(whole.values()) / short:.1f}"
            )
    _table("CIFAR-10 as published [min]", PUBLISHED_MINUTES, passes(PUBLISHED))
    _table(f"CIFAR-10, {HERE.unlearn_steps} steps", {}, passes(HERE))


def _table(title: str, found: dict[str, float], counted: dict[str, float]) -> None:
    print(f"{title:32}     passes   over scoring    measured   over scoring")
    for name, count in counted.items():
        line = f"  {name:30} {count:10.2e} {count / counted['scoring']:14.2f}"
        if found:
            line += f" {found[name]:11.1f} {found[name] / found['scoring']:14.2f}"
        print(line)
    for label, row in (("counted", counted), ("measured", found)):
        if row:
            ratio = (row["retraining"] + row["scoring"]) / (row["unlearning"] + row["scoring"])
            print(f"  retraining and scoring over unlearning and scoring, {label}: {ratio:.1f}")


if __name__ == "__main__":
    main()
