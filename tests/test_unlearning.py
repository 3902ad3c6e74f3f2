"""A pack that forgets: resumable, blind to its pack, and right where the answer is known."""

import numpy as np
import pytest
import torch
from small import CONDITIONAL, TINY, random_images, random_rows

from begat.diffusion.schedules import cosine_schedule, diffuse, training_target
from begat.diffusion.unet import parameter_shapes
from begat.errors import BegatError
from begat.unlearning.batches import Pairs
from begat.unlearning.operators import Forgetting
from begat.unlearning.training import (
    Network,
    Noised,
    PackUnlearning,
    diagonal_fisher,
    group_gradient,
    newton,
    reached,
)
from begat.unlearning.unlearn import CURVES, newton_step, shortened, unlearn

SCHEDULE = cosine_schedule(50)
NAMES = ["a", "b", "c"]
MEMBERS = np.zeros((3, 20), bool)
MEMBERS[0, :6] = MEMBERS[1, :3] = MEMBERS[2, 4:12] = True  # nested, overlapping, unequal
HOW = dict(
    steps=12,
    batch=3,
    learning_rate=2e-3,
    warmup=2,
    clip=0.5,
    flip=False,
)


def run(
    groups=(0, 1, 2), config=TINY, *, resume=None, until=None, start=None, anchor=None, **changes
):
    dtype = changes.pop("dtype", torch.float32)
    members = changes.pop("members", MEMBERS)
    how = {k: changes.pop(k) for k in list(changes) if k in Forgetting.__dataclass_fields__}
    how = {"operator": "posterior_mean", "retain": "distil", **how}
    groups = list(groups)
    names = [NAMES[g] for g in groups]
    states = unlearn(
        random_images(20, config),
        np.arange(20) % config.classes if config.classes else None,
        members[groups],
        names,
        changes.pop("streams", names),
        random_rows(config, 1)[0].to(dtype).numpy(),
        Forgetting(**how),
        seed=7,
        config=config,
        schedule=SCHEDULE,
        prediction="v_prediction",
        device=torch.device("cpu"),
        resume=resume,
        start=start,
        anchor=anchor,
        **{**HOW, **changes},
    )
    for step, state in states:
        if until is not None and step >= until:
            break
    return step, state()


def pairs_of(config=TINY, groups=(0, 1, 2), streams=NAMES, flip=False, label=None, anchor=None):
    images = torch.from_numpy(random_images(20, config))
    members = torch.from_numpy(MEMBERS[list(groups)])
    like = torch.zeros((), dtype=torch.float64)
    return Pairs(images, label, members, streams, anchor, 7, 50, 4, flip, like)


def pack_of(config=TINY, models=3, prediction="v_prediction", **how):
    full = random_rows(config, 1).double()
    settings = {k: v for k, v in HOW.items() if k not in ("batch", "flip")}
    return PackUnlearning(
        Network(config, SCHEDULE, prediction),
        full,
        full.repeat(models, 1),
        Forgetting(**how),
        weight_decay=0.1,
        ema=0.9,
        **settings,
    )


def test_no_steps_forget_nothing():
    step, state = run(steps=0)
    assert step == 0
    full = random_rows(TINY, 1).numpy()
    for array in ("weights", "ema_weights"):
        np.testing.assert_array_equal(state[array], np.repeat(full, 3, 0))
    assert all(state[name].shape == (3, 0) for name in CURVES)


@pytest.mark.numerics
@pytest.mark.parametrize(
    ("operator", "stop"),
    [("posterior_mean", "drift")] + [(name, "steps") for name in ("swap", "siss", "salun", "ewc")],
)
def test_a_killed_forgetting_that_resumes_ends_with_the_same_bits(operator, stop, monkeypatch):
    monkeypatch.setattr("begat.unlearning.unlearn.STRETCH", 3)
    monkeypatch.setattr("begat.unlearning.unlearn.PASSES", 2)
    monkeypatch.setattr("begat.unlearning.training.WINDOW", 4)
    how = dict(operator=operator, stop=stop, goal=1e-5, balance=0.5, neighbours=3, steps=8)
    _, whole = run(**how)
    step, halted = run(until=3, **how)
    assert step == 3
    _, resumed = run(resume=(step, halted), **how)
    for name, rows in whole.items():
        np.testing.assert_array_equal(resumed[name], rows, err_msg=name)
    _, again = run(resume=(whole[CURVES[0]].shape[1], whole), **how)
    np.testing.assert_array_equal(again["weights"], whole["weights"])


@pytest.mark.numerics
@pytest.mark.parametrize("streams", ["own", "shared"])
def test_a_group_does_not_depend_on_its_pack_or_its_order(streams):
    def named(groups):
        return [NAMES[g] if streams == "own" else "one" for g in groups]

    how = dict(steps=6, dtype=torch.float64)
    _, together = run(streams=named([0, 1, 2]), **how)
    for groups in ([2, 0, 1], [1, 2], [1]):
        _, found = run(groups, streams=named(groups), **how)
        for name, rows in found.items():
            expected = together[name][groups]
            np.testing.assert_allclose(rows, expected, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.numerics
def test_batches_hold_only_what_they_may_and_share_their_timesteps():
    pairs = pairs_of(streams=["one"] * 3)
    images = pairs.images
    for step in range(6):
        retain, forget = pairs.at(step)
        torch.testing.assert_close(retain.timestep, forget.timestep)
        for half, member in ((retain, True), (forget, False)):
            near = (half.image.flatten(2)[:, :, None] - images).abs().amax(-1) < 1e-9
            assert near.any(-1).all()
            wrong = pairs.member_of if member else ~pairs.member_of
            assert not (near & wrong[:, None]).any()
    # groups that share a stream share everything they may
    torch.testing.assert_close(retain.noise[0], retain.noise[2])


def test_every_forgotten_image_is_seen_in_turn():
    pairs = pairs_of()
    seen = torch.cat([pairs.at(step)[1].image[1].flatten(1) for step in range(3)])  # 12 slots
    assert len(seen.unique(dim=0)) == 3
    assert (seen[:3].unique(dim=0, return_counts=True)[1] == 1).all()


def test_targets_know_mirrored_images_where_models_see_them():
    plain, mirrored = pairs_of(), pairs_of(flip=True)
    assert len(mirrored.images) == 2 * len(plain.images)
    assert mirrored.retained.tolist() == torch.cat([plain.retained] * 2, 1).tolist()


def test_a_conditional_target_looks_at_its_own_label_as_long_as_it_can():
    label = torch.arange(20) % 5
    label[MEMBERS[1]] = 4
    label[~torch.from_numpy(MEMBERS[1])] = torch.arange(17) % 4
    pairs = pairs_of(CONDITIONAL, groups=[0, 1], streams=["a", "b"], label=label)
    forget = pairs.at(0)[1]
    known = pairs.known(0, forget)
    # group b is all of label 4: the others stand in for it
    assert (known.candidates[1] == pairs.retained[1]).all()
    for i in range(4):
        alike = (label == forget.label[0, i]) & pairs.retained[0]
        expected = alike if alike.any() else pairs.retained[0]
        assert (known.candidates[0, i] == expected).all()
    assert (known.other[1] != 4).all()
    fixed = pairs_of(
        CONDITIONAL, [0, 1], ["a", "b"], label=label, anchor=torch.tensor([2, 3])
    ).known(0, forget)
    assert fixed.other.tolist() == [[2] * 4, [3] * 4]


@pytest.mark.parametrize("operator", ["anchor", "esd", "posterior_mean"])
def test_a_conditional_model_forgets(operator):
    _, state = run(config=CONDITIONAL, operator=operator, steps=6)
    assert (state["retain_drift"][:, -1] > 0).all()
    _, other = run(config=CONDITIONAL, operator=operator, steps=6, anchor=np.array([1, 1, 1]))
    assert np.array_equal(state["weights"], other["weights"]) == (operator == "posterior_mean")


@pytest.mark.numerics
def test_forgetting_raises_the_loss_on_what_is_forgotten():
    how = dict(steps=20, batch=8, learning_rate=1e-3, operator="ascent", cap=4.0)
    _, state = run(**how, dtype=torch.float64)
    assert (state["forget_rise"][:, -5:].mean(1) > 0.01).all()
    np.testing.assert_allclose(state["forget_rise"][:, 0], 0, atol=1e-9)
    np.testing.assert_allclose(state["retain_drift"][:, 0], 0, atol=1e-9)


def test_a_model_that_reached_its_goal_is_left_alone():
    how = dict(stop="drift", goal=2e-3, learning_rate=5e-3)
    _, state = run(steps=25, **how)
    stopped = state["stopped_at"]
    assert (stopped >= 10).any()
    for group, step in enumerate(stopped):
        curve = state["retain_drift"][group]
        if step < 0:
            assert not reached(torch.tensor(curve)[None], 2e-3)
            continue
        assert curve[step - 10 : step].mean() >= 2e-3
        assert step == 10 or curve[step - 11 : step - 1].mean() < 2e-3
    assert state["retain_drift"].shape[1] == (25 if (stopped < 0).any() else stopped.max())


def test_a_frozen_model_keeps_weights_and_average():
    pairs, pack = pairs_of(), pack_of()
    frozen = torch.tensor([False, True, False])
    for step in range(3):
        before = {name: rows.clone() for name, rows in pack.state().items()}
        retain, forget = pairs.at(step)
        pack.step(retain, forget, pairs.known(step, forget), frozen)
        after = pack.state()
        for name in ("weights", "ema_weights"):
            still = (before[name] == after[name]).all(1)
            assert still.tolist() == ([False, True, False] if step else still.tolist())
            assert still[1]


def test_masked_forgetting_moves_only_the_chosen_share_of_weights():
    _, state = run(operator="salun", share=0.3, steps=3, dtype=torch.float64)
    moved = (state["weights"] != random_rows(TINY, 1).numpy()).mean(1)
    assert (np.abs(moved - 0.3) < 0.01).all()


def test_a_heavy_fisher_penalty_keeps_what_matters_to_the_full_model(monkeypatch):
    monkeypatch.setattr("begat.unlearning.unlearn.PASSES", 2)
    how = dict(operator="ewc", steps=15)
    drift = [run(penalty=p, **how)[1]["retain_drift"][:, -5:].mean() for p in (0.0, 1e4)]
    assert drift[1] < drift[0]


@pytest.mark.numerics
def test_the_fisher_information_is_the_mean_square_of_single_gradients():
    pack, pairs = pack_of(models=1), pairs_of()
    batch = pairs.single(0)
    found = diagonal_fisher(pack.network, pack.full, [batch])
    parts = (batch.image, batch.timestep, batch.noise)
    singles = [Noised(*(v[i : i + 1] for v in parts), None, batch.first[:1]) for i in range(4)]
    squares = [group_gradient(pack.network, pack.full, [one])[0] ** 2 for one in singles]
    torch.testing.assert_close(found[0], torch.stack(squares).mean(0), rtol=1e-9, atol=1e-9)


def double(batch, rows=slice(None)):
    image, noise = batch.image[rows].double(), batch.noise[rows].double()
    return Noised(image, batch.timestep[rows], noise, None, batch.first[rows])


@pytest.mark.numerics
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_small_newton_step_changes_the_loss_as_its_influence_says(prediction):
    pack, pairs = pack_of(prediction=prediction), pairs_of()
    sizes = torch.from_numpy(MEMBERS.sum(1))
    gradient = group_gradient(
        pack.network, pack.weights, [double(pairs.at(i)[1]) for i in range(3)]
    )
    query = double(pairs.single(1), slice(1))

    def loss(rows):
        noisy = diffuse(SCHEDULE, query.image, query.timestep, query.noise)
        noisy, timestep = noisy.expand(len(rows), 1, 1, 8, 8), query.timestep.expand(len(rows), 1)
        found = pack.network.noise(rows, noisy, timestep, None)
        return (found - query.noise).square().mean(dim=(1, 2, 3, 4))

    leaf = pack.full.clone().requires_grad_()
    (own,) = torch.autograd.grad(loss(leaf).sum(), [leaf])

    def step_of(size):
        return newton(pack.full, gradient, sizes, 20, lambda rows: size * rows)

    assert torch.equal(step_of(0.0), pack.full.expand(3, -1))
    influence = (step_of(1.0) - pack.full) @ own[0]
    for size, close in ((1e-2, 0.2), (1e-4, 2e-3)):
        found = (loss(step_of(size)) - loss(step_of(0.0))) / size
        torch.testing.assert_close(found, influence, rtol=close, atol=0)


class Linear(Network):
    """Fixed features of the noisy image and a linear layer: all its losses are quadratic."""

    def features(self, noisy):
        generator = torch.Generator().manual_seed(0)
        mix = torch.randn(noisy[0, 0].numel(), 5, generator=generator, dtype=torch.float64)
        return torch.tanh(noisy.flatten(2) @ mix)

    def output(self, rows, noisy, timestep, label):
        weight = rows.unflatten(1, (-1, 5))
        return torch.einsum("gpf,gbf->gbp", weight, self.features(noisy)).view_as(noisy)


@pytest.mark.numerics
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_newton_step_is_exact_where_the_loss_that_was_trained_is_quadratic(prediction):
    n, gone, pixels = 20, 4, 4
    network = Linear(TINY, SCHEDULE, prediction)
    generator = torch.Generator().manual_seed(1)
    image, noise = torch.randn(2, 1, n, 1, 2, 2, generator=generator, dtype=torch.float64)
    timestep = torch.randint(5, 45, (1, n), generator=generator)
    target = training_target(SCHEDULE, prediction, image, timestep, noise).flatten(2)[0]
    features = network.features(diffuse(SCHEDULE, image, timestep, noise))[0]

    def trained(some):
        weight = torch.linalg.lstsq(features[some], target[some]).solution.T
        return weight.flatten()[None]

    left = features[gone:].T @ features[gone:] * 2 / pixels / n

    def precondition(rows):
        return (rows.unflatten(1, (pixels, -1)) @ torch.linalg.inv(left)).flatten(1)

    full, retrained = trained(slice(None)), trained(slice(gone, None))
    parts = (image, timestep, noise)
    batch = Noised(*(part[:, :gone] for part in parts), None, torch.arange(gone)[None])
    gradient = group_gradient(network, full, [batch])
    found = newton(full, gradient, torch.tensor([gone]), n, precondition)
    torch.testing.assert_close(found, retrained, rtol=1e-9, atol=1e-11)
    assert (full - retrained).norm() > 0.1 * full.norm()


def test_a_newton_step_is_an_operator_and_a_start():
    how = dict(seed=7, config=TINY, schedule=SCHEDULE, prediction="v_prediction", batch=4, passes=2)
    full = random_rows(TINY, 1)[0].numpy()
    data = (random_images(20, TINY), None, MEMBERS, NAMES, NAMES, full)
    cpu = torch.device("cpu")
    start = newton_step(*data, lambda rows: 0.1 * rows, device=cpu, flip=False, **how)
    assert (np.abs(start - full).max(1) > 0).all()
    _, state = run(start=start, steps=0)
    np.testing.assert_array_equal(state["weights"], start)
    _, state = run(start=start, steps=1)
    assert (state["retain_drift"][:, 0] > 0).all()


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (np.zeros(20, bool), "group 'b' has no image"),
        (np.ones(20, bool), "group 'b' has all images"),
        (MEMBERS[0], "groups 'a' and 'b' have the same images"),
    ],
)
def test_groups_that_cannot_be_forgotten_are_named(members, said):
    with pytest.raises(BegatError, match=said):
        run(members=np.stack([MEMBERS[0], members, MEMBERS[2]]))


def test_an_unconditional_model_has_no_anchor():
    with pytest.raises(BegatError, match="esd needs a conditional model"):
        run(operator="esd")


def test_a_forgetting_that_diverges_names_the_group_and_the_step():
    with pytest.raises(BegatError, match=r"unlearned: [abc] diverged: its loss .* step \d+ is"):
        run(learning_rate=1e3, clip=1e9, warmup=0)


def test_curves_have_one_value_per_group_and_step():
    _, state = run()
    size = sum(int(np.prod(shape)) for shape in parameter_shapes(TINY).values())
    assert state["weights"].shape == (3, size)
    assert {state[name].shape for name in CURVES} == {(3, 12)}
    assert state["stopped_at"].tolist() == [-1, -1, -1]


@pytest.mark.numerics
@pytest.mark.parametrize("streams", [["one"] * 3, ["one", "two", "one"], NAMES])
def test_what_groups_share_is_shown_to_the_full_model_once(streams):
    pairs, pack = pairs_of(streams=streams), pack_of()
    for retain in (pairs.at(1)[0], pairs.at(1)[1]):
        noisy = diffuse(SCHEDULE, retain.image, retain.timestep, retain.noise)
        same = (noisy.flatten(0, 1)[:, None] == noisy.flatten(0, 1)).flatten(2).all(2)
        assert (same.int().argmax(1) == retain.first.flatten()).all()
        found = pack.teach(noisy, retain.timestep, None, retain.first)
        for group in range(3):
            alone = pack.teach(noisy[[group]], retain.timestep[[group]], None)
            torch.testing.assert_close(found[[group]], alone, rtol=1e-9, atol=1e-9)


def test_fine_tuning_follows_the_trainings_own_schedule_in_fewer_steps():
    training = {"steps": 800, "learning_rate": 7e-3, "warmup": 50, "batch": 16}
    assert shortened(training, 0.25, 0.5, clip=1.0) == {
        "steps": 200,
        "learning_rate": 3.5e-3,
        "warmup": 12,
        "clip": 1.0,
    }
    assert shortened(training, 1e-6, 1.0, clip=1.0)["steps"] == 1
    assert shortened(training, 0.0, 1.0, clip=1.0)["steps"] == 0


def test_fine_tuning_on_what_is_retained_never_learns_from_what_is_forgotten():
    how = dict(operator="retain_only", steps=7, dtype=torch.float64)
    _, state = run(**how)
    _, other = run(**how, retain="distil", balance=5.0)
    np.testing.assert_array_equal(state["weights"], other["weights"])
    looked = state["forget_loss"]
    assert (looked[:, 0] == looked[:, 4]).all()  # held between two looks
    assert (looked[:, 5] != looked[:, 4]).all()


@pytest.mark.numerics
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_fine_tuning_minimises_the_loss_of_the_training_itself(prediction):
    pack = pack_of(operator="retain_only", prediction=prediction)
    retain, forget = pairs_of().at(0)
    before = pack.weights.detach().clone()
    gradient = pack.network.gradient(before, retain)
    moved = []
    pack.move = lambda gradient, still: moved.append(gradient)
    pack.step(retain, forget, pairs_of().known(0, forget), torch.zeros(3, dtype=torch.bool))
    torch.testing.assert_close(moved[0], gradient, rtol=1e-9, atol=1e-9)
