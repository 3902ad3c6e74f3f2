"""Unlearning packs: resumable, independent of the pack, and exact where the answer is known."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from small import CONDITIONAL, TINY, random_images, random_rows

from begat.diffusion.packed_network import NoisedBatch, PackedNetwork
from begat.diffusion.schedules import cosine_schedule, diffuse, training_target
from begat.diffusion.training_batches import BatchSampler, TrainingImages
from begat.diffusion.training_config import OptimiserConfig
from begat.diffusion.unet import parameter_shapes
from begat.errors import BegatError
from begat.unlearning.batches import ForgetGroup, ForgetRetainSampler
from begat.unlearning.config import UnlearningConfig
from begat.unlearning.newton import diagonal_fisher, group_gradient, newton_update
from begat.unlearning.operators import OPERATORS, parse_operator
from begat.unlearning.training import PackUnlearning, has_reached
from begat.unlearning.unlearn import CURVES, fine_tuning, newton_step, unlearn

SCHEDULE = cosine_schedule(50)
NAMES = ["a", "b", "c"]
MEMBERS = np.zeros((3, 20), bool)
MEMBERS[0, :6] = MEMBERS[1, :3] = MEMBERS[2, 4:12] = True  # nested, overlapping, unequal
OPTIMISER = dict(num_steps=12, learning_rate=2e-3, warmup_steps=2, max_grad_norm=0.5)
DISTILLED = dict(operator="posterior_mean", retain_loss="distil")


def config_of(operator="retain_only", **changes):
    """A configuration from flat settings: the optimiser's, the operator's and the common ones."""
    own = [field.name for field in fields(OPERATORS[operator])]
    parameters = {key: changes.pop(key) for key in own if key in changes}
    optimiser = {
        field.name: changes.pop(field.name, OPTIMISER.get(field.name, field.default))
        for field in fields(OptimiserConfig)
    }
    operator = parse_operator({"name": operator, **parameters})
    batch_size = changes.pop("batch_size", 3)
    return UnlearningConfig(OptimiserConfig(**optimiser), batch_size, operator, **changes)


def data_of(config=TINY, label=None, random_flip=False):
    return TrainingImages(random_images(20, config), label, random_flip)


def groups_of(groups=(0, 1, 2), streams=None, members=MEMBERS, anchors=(None,) * 3):
    names = [NAMES[g] for g in groups]
    streams = names if streams is None else streams
    rows = [(members[g], anchors[g]) for g in groups]
    return [ForgetGroup(n, s, *row) for n, s, row in zip(names, streams, rows, strict=True)]


def run(config=TINY, *, groups=None, resume=None, until=None, precondition=None, **changes):
    dtype = changes.pop("dtype", torch.float32)
    label = np.arange(20) % config.classes if config.classes else None
    states = unlearn(
        data_of(config, label),
        groups_of() if groups is None else groups,
        random_rows(config, 1)[0].to(dtype).numpy(),
        PackedNetwork(config, SCHEDULE, "v_prediction", dtype=dtype),
        config_of(**{**DISTILLED, **changes}),
        seed=7,
        precondition=precondition,
        resume=resume,
    )
    for step, state in states:
        if until is not None and step >= until:
            break
    return step, state()


def sampler_of(config=TINY, groups=None, label=None, random_flip=False):
    network = PackedNetwork(config, SCHEDULE, "v_prediction", dtype=torch.float64)
    sampler = BatchSampler(data_of(config, label, random_flip), network, 7, 4)
    return ForgetRetainSampler(groups_of() if groups is None else groups, sampler)


def pack_of(config=TINY, models=3, prediction="v_prediction", **changes):
    full = random_rows(config, 1).double()
    network = PackedNetwork(config, SCHEDULE, prediction, dtype=torch.float64)
    unlearning = config_of(weight_decay=0.1, ema_decay=0.9, **changes)
    return PackUnlearning(network, full, full.repeat(models, 1), unlearning)


def test_without_steps_the_result_is_the_full_model():
    step, state = run(num_steps=0)
    assert step == 0
    full = random_rows(TINY, 1).numpy()
    for array in ("weights", "ema_weights"):
        np.testing.assert_array_equal(state[array], np.repeat(full, 3, 0))
    assert all(state[name].shape == (3, 0) for name in CURVES)


@pytest.mark.numerics
@pytest.mark.parametrize(
    ("operator", "stopping_rule"),
    [("posterior_mean", "drift")] + [(name, "steps") for name in ("swap", "siss", "salun", "ewc")],
)
def test_a_killed_unlearning_that_resumes_ends_with_the_same_bits(
    operator, stopping_rule, monkeypatch
):
    monkeypatch.setattr("begat.unlearning.unlearn.YIELD_INTERVAL", 3)
    monkeypatch.setattr("begat.unlearning.unlearn.NUM_BATCHES", 2)
    monkeypatch.setattr("begat.unlearning.training.STOPPING_WINDOW", 4)
    how = dict(operator=operator, stopping_rule=stopping_rule, stopping_threshold=1e-5)
    how |= dict(forget_weight=0.5, num_steps=8)
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
    def pack(groups):
        return groups_of(groups, None if streams == "own" else ["one"] * len(groups))

    how = dict(num_steps=6, dtype=torch.float64)
    _, together = run(groups=pack([0, 1, 2]), **how)
    for groups in ([2, 0, 1], [1, 2], [1]):
        _, found = run(groups=pack(groups), **how)
        for name, rows in found.items():
            expected = together[name][groups]
            np.testing.assert_allclose(rows, expected, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.numerics
def test_batches_hold_only_what_they_may_and_share_their_timesteps():
    sampler = sampler_of(groups=groups_of(streams=["one"] * 3))
    images = sampler.images
    for step in range(6):
        retain, forget = sampler.batch(step)
        torch.testing.assert_close(retain.timestep, forget.timestep)
        for half, member in ((retain, True), (forget, False)):
            near = (half.image.flatten(2)[:, :, None] - images).abs().amax(-1) < 1e-9
            assert near.any(-1).all()
            wrong = sampler.members if member else ~sampler.members
            assert not (near & wrong[:, None]).any()
    # groups that share a stream share everything they may
    torch.testing.assert_close(retain.noise[0], retain.noise[2])


def test_every_forgotten_image_is_seen_in_turn():
    sampler = sampler_of()
    seen = torch.cat([sampler.batch(step)[1].image[1].flatten(1) for step in range(3)])  # 12 slots
    assert len(seen.unique(dim=0)) == 3
    assert (seen[:3].unique(dim=0, return_counts=True)[1] == 1).all()


def test_targets_use_mirrored_images_if_batches_contain_them():
    plain, mirrored = sampler_of(), sampler_of(random_flip=True)
    assert len(mirrored.images) == 2 * len(plain.images)
    assert mirrored.retained.tolist() == torch.cat([plain.retained] * 2, 1).tolist()


def test_a_conditional_target_uses_images_of_its_own_label_if_there_are_any():
    label = torch.arange(20) % 5
    label[MEMBERS[1]] = 4
    label[~torch.from_numpy(MEMBERS[1])] = torch.arange(17) % 4
    sampler = sampler_of(CONDITIONAL, groups_of([0, 1]), label.numpy())
    forget = sampler.batch(0)[1]
    inputs = sampler.target_inputs(0, forget)
    # group b is all of label 4: the others stand in for it
    assert (inputs.candidates[1] == sampler.retained[1]).all()
    for i in range(4):
        alike = (label == forget.label[0, i]) & sampler.retained[0]
        expected = alike if alike.any() else sampler.retained[0]
        assert (inputs.candidates[0, i] == expected).all()
    assert (inputs.anchor_label[1] != 4).all()
    fixed = sampler_of(CONDITIONAL, groups_of([0, 1], anchors=[2, 3]), label.numpy())
    assert fixed.target_inputs(0, forget).anchor_label.tolist() == [[2] * 4, [3] * 4]


@pytest.mark.parametrize("operator", ["anchor", "esd", "posterior_mean"])
def test_a_conditional_model_is_unlearned(operator):
    anchored = groups_of(anchors=[1, 1, 1])
    _, state = run(config=CONDITIONAL, operator=operator, num_steps=6)
    assert (state["retain_drift"][:, -1] > 0).all()
    _, other = run(config=CONDITIONAL, operator=operator, num_steps=6, groups=anchored)
    assert np.array_equal(state["weights"], other["weights"]) == (operator == "posterior_mean")


@pytest.mark.numerics
def test_unlearning_raises_the_loss_on_forget_images():
    how = dict(num_steps=20, batch_size=8, learning_rate=1e-3)
    how |= dict(operator="ascent", max_forget_loss=4.0)
    _, state = run(**how, dtype=torch.float64)
    assert (state["forget_rise"][:, -5:].mean(1) > 0.01).all()
    np.testing.assert_allclose(state["forget_rise"][:, 0], 0, atol=1e-9)
    np.testing.assert_allclose(state["retain_drift"][:, 0], 0, atol=1e-9)


def test_a_model_that_reached_the_stopping_threshold_is_frozen():
    how = dict(stopping_rule="drift", stopping_threshold=2e-3, learning_rate=5e-3)
    _, state = run(num_steps=25, **how)
    stopped = state["stopped_at"]
    assert (stopped >= 10).any()
    for group, step in enumerate(stopped):
        curve = state["retain_drift"][group]
        if step < 0:
            assert not has_reached(torch.tensor(curve)[None], 2e-3)
            continue
        assert curve[step - 10 : step].mean() >= 2e-3
        assert step == 10 or curve[step - 11 : step - 1].mean() < 2e-3
    assert state["retain_drift"].shape[1] == (25 if (stopped < 0).any() else stopped.max())


def test_a_frozen_model_keeps_weights_and_average():
    sampler, pack = sampler_of(), pack_of()
    frozen = torch.tensor([False, True, False])
    for step in range(3):
        before = {name: rows.clone() for name, rows in pack.state().items()}
        retain, forget = sampler.batch(step)
        pack.step(retain, forget, sampler.target_inputs(step, forget), frozen)
        after = pack.state()
        for name in ("weights", "ema_weights"):
            still = (before[name] == after[name]).all(1)
            assert still.tolist() == ([False, True, False] if step else still.tolist())
            assert still[1]


def test_masked_unlearning_updates_only_the_given_fraction_of_weights():
    _, state = run(operator="salun", mask_fraction=0.3, num_steps=3, dtype=torch.float64)
    moved = (state["weights"] != random_rows(TINY, 1).numpy()).mean(1)
    assert (np.abs(moved - 0.3) < 0.01).all()


def test_a_heavy_fisher_penalty_keeps_predictions_on_retained_images(monkeypatch):
    monkeypatch.setattr("begat.unlearning.unlearn.NUM_BATCHES", 2)
    how = dict(operator="ewc", num_steps=15)
    drift = [run(ewc_weight=w, **how)[1]["retain_drift"][:, -5:].mean() for w in (0.0, 1e4)]
    assert drift[1] < drift[0]


@pytest.mark.numerics
def test_the_fisher_information_is_the_mean_square_of_single_gradients():
    pack, sampler = pack_of(models=1), sampler_of()
    batch = sampler.fisher_batch(0)
    found = diagonal_fisher(pack.network, pack.full, [batch])
    parts = (batch.image, batch.timestep, batch.noise)
    singles = [NoisedBatch(*(v[i : i + 1] for v in parts)) for i in range(4)]
    squares = [group_gradient(pack.network, pack.full, [one])[0] ** 2 for one in singles]
    torch.testing.assert_close(found[0], torch.stack(squares).mean(0), rtol=1e-9, atol=1e-9)


@pytest.mark.numerics
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_small_newton_step_changes_the_loss_as_its_influence_says(prediction):
    pack, sampler = pack_of(prediction=prediction), sampler_of()
    sizes = torch.from_numpy(MEMBERS.sum(1))
    batches = [sampler.batch(i)[1] for i in range(3)]
    gradient = group_gradient(pack.network, pack.weights, batches)
    batch = sampler.fisher_batch(1)
    query = NoisedBatch(batch.image[:1], batch.timestep[:1], batch.noise[:1])

    def loss(rows):
        noisy = diffuse(SCHEDULE, query.image, query.timestep, query.noise)
        noisy, timestep = noisy.expand(len(rows), 1, 1, 8, 8), query.timestep.expand(len(rows), 1)
        found = pack.network.predict_noise(rows, noisy, timestep, None)
        return (found - query.noise).square().mean(dim=(1, 2, 3, 4))

    leaf = pack.full.clone().requires_grad_()
    (own,) = torch.autograd.grad(loss(leaf).sum(), [leaf])

    def step_of(size):
        return newton_update(pack.full, gradient, sizes, 20, lambda rows: size * rows)

    assert torch.equal(step_of(0.0), pack.full.expand(3, -1))
    influence = (step_of(1.0) - pack.full) @ own[0]
    for size, close in ((1e-2, 0.2), (1e-4, 2e-3)):
        found = (loss(step_of(size)) - loss(step_of(0.0))) / size
        torch.testing.assert_close(found, influence, rtol=close, atol=0)


class Linear(PackedNetwork):
    """Fixed features of the noisy image and a linear layer: all its losses are quadratic."""

    def features(self, noisy):
        generator = torch.Generator().manual_seed(0)
        mix = torch.randn(noisy[0, 0].numel(), 5, generator=generator, dtype=torch.float64)
        return torch.tanh(noisy.flatten(2) @ mix)

    def output(self, rows, noisy, timestep, label, dropout=None):
        weight = rows.unflatten(1, (-1, 5))
        return torch.einsum("gpf,gbf->gbp", weight, self.features(noisy)).view_as(noisy)


@pytest.mark.numerics
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_newton_step_is_exact_where_the_loss_that_was_trained_is_quadratic(prediction):
    n, gone, pixels = 20, 4, 4
    network = Linear(TINY, SCHEDULE, prediction, dtype=torch.float64)
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
    batch = NoisedBatch(*(part[:, :gone] for part in parts))
    gradient = group_gradient(network, full, [batch])
    found = newton_update(full, gradient, torch.tensor([gone]), n, precondition)
    torch.testing.assert_close(found, retrained, rtol=1e-9, atol=1e-11)
    assert (full - retrained).norm() > 0.1 * full.norm()


def test_a_newton_step_is_an_operator_and_gives_initial_weights(monkeypatch):
    monkeypatch.setattr("begat.unlearning.unlearn.NUM_BATCHES", 2)
    network, full = PackedNetwork(TINY, SCHEDULE, "v_prediction"), random_rows(TINY, 1)[0].numpy()

    def precondition(rows):
        return 0.1 * rows

    inputs = data_of(), groups_of(), full, network, precondition
    weights = newton_step(*inputs, seed=7, batch_size=3)
    assert (np.abs(weights - full).max(1) > 0).all()
    _, state = run(operator="newton", precondition=precondition)
    np.testing.assert_array_equal(state["weights"], weights)
    assert state["retain_drift"].shape == (3, 0)
    _, state = run(init="newton", precondition=precondition, num_steps=0)
    np.testing.assert_array_equal(state["weights"], weights)
    _, state = run(init="newton", precondition=precondition, num_steps=1)
    assert (state["retain_drift"][:, 0] > 0).all()
    with pytest.raises(BegatError, match="init: a Newton step needs the inverse curvature"):
        run(init="newton")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (np.zeros(20, bool), "group 'b' has no image"),
        (np.ones(20, bool), "group 'b' has all images"),
        (MEMBERS[0], "groups 'a' and 'b' have the same images"),
    ],
)
def test_groups_that_cannot_be_unlearned_are_named(members, said):
    with pytest.raises(BegatError, match=said):
        run(groups=groups_of(members=np.stack([MEMBERS[0], members, MEMBERS[2]])))


def test_an_unconditional_model_has_no_anchor_label():
    with pytest.raises(BegatError, match="operator: esd needs a conditional model"):
        run(operator="esd")


def test_an_unlearning_that_diverges_names_the_group_and_the_step():
    with pytest.raises(BegatError, match=r"group '[abc]' diverged: its loss .* step \d+ is"):
        run(learning_rate=1e3, max_grad_norm=1e9, warmup_steps=0)


def test_curves_have_one_value_per_group_and_step():
    _, state = run()
    size = sum(int(np.prod(shape)) for shape in parameter_shapes(TINY).values())
    assert state["weights"].shape == (3, size)
    assert {state[name].shape for name in CURVES} == {(3, 12)}
    assert state["stopped_at"].tolist() == [-1, -1, -1]


@pytest.mark.numerics
@pytest.mark.parametrize("streams", [["one"] * 3, ["one", "two", "one"], NAMES])
def test_the_full_model_is_evaluated_once_on_what_groups_share(streams):
    sampler, pack = sampler_of(groups=groups_of(streams=streams)), pack_of()
    for retain in (sampler.batch(1)[0], sampler.batch(1)[1]):
        noisy = diffuse(SCHEDULE, retain.image, retain.timestep, retain.noise)
        same = (noisy.flatten(0, 1)[:, None] == noisy.flatten(0, 1)).flatten(2).all(2)
        assert (same.int().argmax(1) == retain.first_occurrence.flatten()).all()
        found = pack.teacher_noise(noisy, retain.timestep, None, retain.first_occurrence)
        for group in range(3):
            alone = pack.teacher_noise(noisy[[group]], retain.timestep[[group]], None)
            torch.testing.assert_close(found[[group]], alone, rtol=1e-9, atol=1e-9)


def test_fine_tuning_follows_the_trainings_schedule_in_fewer_steps():
    training = OptimiserConfig(800, 7e-3, 50, 2.0, weight_decay=0.1, ema_decay=0.99)
    expected = OptimiserConfig(200, 3.5e-3, 12, 1.0)
    assert fine_tuning(training, 0.25, 0.5, max_grad_norm=1.0) == expected
    assert fine_tuning(training, 1e-6, 1.0, max_grad_norm=1.0).num_steps == 1
    assert fine_tuning(training, 0.0, 1.0, max_grad_norm=1.0).num_steps == 0


def test_retain_only_has_no_forget_term():
    how = dict(operator="retain_only", num_steps=7, dtype=torch.float64)
    _, state = run(**how, retain_loss="denoise")
    _, other = run(**how, forget_weight=5.0)
    np.testing.assert_array_equal(state["weights"], other["weights"])
    curve = state["forget_loss"]
    assert (curve[:, 0] == curve[:, 4]).all()  # evaluated in every fifth step
    assert (curve[:, 5] != curve[:, 4]).all()


@pytest.mark.numerics
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_fine_tuning_minimises_the_loss_of_the_training_itself(prediction):
    pack = pack_of(operator="retain_only", prediction=prediction)
    retain, forget = sampler_of().batch(0)
    before = pack.weights.detach().clone()
    gradient = pack.network.gradient(before, retain)
    moved = []
    pack.update = lambda gradient, frozen: moved.append(gradient)
    pack.step(
        retain, forget, sampler_of().target_inputs(0, forget), torch.zeros(3, dtype=torch.bool)
    )
    torch.testing.assert_close(moved[0], gradient, rtol=1e-9, atol=1e-9)
