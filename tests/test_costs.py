"""What a plan says before a run: network sizes, memory, disk space, files, seconds."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from plans import copied
from small import CONFIGS, random_rows
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from begat import cli
from begat.diffusion.denoisers import unet_denoiser
from begat.diffusion.parameter_rows import unflatten
from begat.diffusion.schedules import cosine_schedule
from begat.diffusion.unet import unet
from begat.diffusion.unet_shapes import layers, parameter_count, parameter_shapes
from begat.execution.architecture import size_of
from begat.execution.costs import JobSizes
from begat.execution.jobs import Cost
from begat.execution.records import record
from begat.influence.layers import tracked_layers
from begat.influence.tapes import recording
from begat.planning import costs
from begat.planning.costs import by_stage, job_costs, too_large, work_left
from begat.planning.plan import Plan
from begat.planning.rates import MIB, Probe, Rates, Sample, read_probe, samples, write_probe
from begat.stages import STAGES
from begat.storage.artifacts import write
from snakemake_logger_plugin_begat.work import STALE, forecast

UNKNOWN = Rates([], Probe())


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return Plan(copied(tmp_path_factory.mktemp("plan")), "params/tiny.yaml")


def changed(plan, section, **values):
    """The same plan with other parameters of one section, its jobs as they were."""
    other = object.__new__(Plan)
    other.__dict__.update(plan.__dict__)
    own = replace(getattr(plan.params, section), **values)
    other.params = replace(plan.params, **{section: own})
    return other


def largest(plan, stage):
    return max((plan.cost(job) for job in plan.jobs(stage)), key=lambda cost: cost.memory)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_parameters_are_counted_without_building_the_network(config):
    assert parameter_count(config) == random_rows(config, 1).shape[1]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_multiplications_are_those_that_torch_counts_but_for_biases_and_attention(config):
    x = torch.zeros(1, 1, config.image_channels, config.sample_size, config.sample_size)
    t = torch.zeros(1, 1, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        unet(unflatten(random_rows(config, 1), config), config, x, t, t if config.classes else None)
    biases = sum(
        shape[0] * (config.sample_size**2 if "attentions" in name else 1)  # at most, by position
        for name, shape in parameter_shapes(config).items()
        if name.endswith("weight") and len(shape) == 2
    )
    attention = sum(layer.products for layer in layers(config) if not layer.outputs)
    counted = counter.get_total_flops() / 2
    assert size_of(config).products - attention <= counted + biases
    assert counted <= size_of(config).products + biases


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_tape_has_as_many_numbers_as_the_plan_says(config):
    row = random_rows(config, 1)[0]
    denoiser = unet_denoiser(row, config, cosine_schedule(9), "epsilon", torch.device("cpu"))
    x = torch.zeros(1, config.image_channels, config.sample_size, config.sample_size)
    t = torch.zeros(1, dtype=torch.long)
    with recording(denoiser.module, tracked_layers(denoiser.module, norms=True)) as tape:
        tape.clear()
        output = denoiser.forward(denoiser.module, x, t, t if config.classes else None)
        tape.backward(output, torch.ones_like(output))
        assert tape.elements == size_of(config).taped


def test_every_job_has_a_cost(plan):
    for job in plan.jobs():
        cost = plan.cost(job)
        assert min(cost.work, cost.memory, cost.disk, cost.files) > 0, job.path
        assert cost.memory >= cost.host
        assert all(map(math.isfinite, (cost.work, cost.memory, cost.disk)))


def test_a_plan_needs_no_torch(plan):
    code = "import sys; from begat.cli import commands; commands({}, standalone_mode=False)"
    code = code.format(["plan", "--params-file", plan.params.params_file])
    code += "; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=plan.root, check=True, capture_output=True)


def test_work_grows_with_steps_and_draws(plan):
    twice = changed(plan, "models", max_train_steps=2 * plan.params.models.max_train_steps)
    assert largest(twice, "models").work == 2 * largest(plan, "models").work
    draws = plan.params.value("measurements.draws")
    twice = changed(plan, "measurements", draws=2 * draws)
    for job in plan.jobs("measurements"):
        assert twice.cost(job).evaluations == 2 * plan.cost(job).evaluations


@pytest.mark.parametrize(
    ("stage", "section", "values"),
    [
        ("models", "models", {"batch_size": 64}),
        ("models", "unet", {"block_out_channels": [64, 128]}),
        ("unlearned", "unlearned", {"batch_size": 64}),
        ("scores_trak", "unet", {"block_out_channels": [64, 128]}),
        ("scores_influence", "scores_influence", {"damping_grid": [1.0] * 40}),
        ("factors", "unet", {"block_out_channels": [64, 128]}),
    ],
)
def test_memory_grows_with_what_is_held(plan, stage, section, values):
    other = changed(plan, section, **values)
    other.spec = replace_params(plan.spec, other.params)
    assert largest(other, stage).memory > 1.2 * largest(plan, stage).memory


def replace_params(spec, params):
    other = object.__new__(type(spec))
    other.__dict__.update(spec.__dict__)
    other.params = params
    return other


def test_what_is_advised_lowers_memory(plan):
    projected = changed(plan, "scores_trak", projection_dim=16)
    assert largest(projected, "scores_trak").memory < largest(plan, "scores_trak").memory
    coarse = changed(plan, "scores_influence", query_gradient_dtype="int8")
    assert largest(coarse, "scores_influence").memory < largest(plan, "scores_influence").memory
    by_models = sorted((len(job.models), plan.cost(job).memory) for job in plan.jobs("models"))
    assert by_models[0][1] < by_models[-1][1]


def noise(dtype, shape):
    """Numbers that compress about as badly as results do."""
    generator = np.random.default_rng(0)
    if dtype.kind == "f":
        return generator.normal(size=shape).astype(dtype)
    return generator.integers(0, 1000, shape).astype(dtype)


@pytest.mark.parametrize(
    ("stage", "arrays", "axes"),
    [
        ("models", "weights ema_weights", {"model": 6}),
        ("measurements", "loss timestep", {"model": 6, "query": 64, "draw": 64}),
        ("measurements", "loss gram timestep", {"model": 8, "query": 64, "draw": 64, "member": 16}),
    ],
)
def test_disk_space_is_what_artifacts_take(plan, tmp_path, stage, arrays, axes):
    from begat.storage.schema import schema_of

    sizes = JobSizes(plan, plan.jobs(stage)[0])
    lengths = {"parameter": sizes.network.parameters, **axes}
    shapes = {n: [lengths[a] for a in schema_of(stage)[n].axes] for n in arrays.split()}
    blocks = [{n: noise(schema_of(stage)[n].in_memory, s) for n, s in shapes.items()}]
    for name in blocks[0].keys() & {"gram"}:  # symmetric, as products are
        blocks[0][name] = blocks[0][name] + blocks[0][name].transpose(0, 2, 1)
    write(tmp_path / "a.zarr", stage, {"key": "k"}, blocks)
    files = [p for name in shapes for p in (tmp_path / "a.zarr" / name).rglob("*") if p.is_file()]
    disk, number = sizes.stored(arrays.split(), {}, **axes)
    assert number == len(files)
    assert disk == pytest.approx(sum(p.stat().st_size for p in files), rel=0.15)


def sample(stage, work, seconds, kind="prediction", peak=300 * MIB):
    return Sample(stage, Cost(kind, work, work, memory=10 * MIB), seconds, peak)


def test_a_long_job_predicts_one_of_half_its_work():
    rates = Rates([sample("queries", 0, 2.0), sample("models", 100, 202.0, "training")], Probe())
    assert rates.seconds("models", Cost("training", 50, 50)) == pytest.approx(104, rel=0.05)


def test_short_jobs_leave_the_word_to_the_probe():
    short = [sample("queries", 1e-3, 2.0), sample("queries", 1e-3, 2.4)]
    assert Rates(short, Probe()).seconds("queries", Cost("prediction", 9, 9)) is None
    rates = Rates(short, Probe("cpu", {"prediction": 3.0}, {"prediction": 1.0}))
    assert rates.seconds("queries", Cost("prediction", 100, 100)) == pytest.approx(300, rel=0.15)


def test_without_records_and_probe_no_time_is_said():
    assert UNKNOWN.seconds("models", Cost("training", 1, 1)) is None
    assert UNKNOWN.of("models", "training").source == ""


def test_memory_is_what_other_jobs_of_the_stage_took_beyond_their_arrays():
    rates = Rates([sample("queries", 1, 2.0)], Probe())
    assert rates.memory("queries", Cost("prediction", memory=50 * MIB)) == 340 * MIB


def test_records_say_what_their_jobs_took(plan):
    job, cost = plan.jobs("queries")[0], Cost("prediction", 4, 4, memory=1.0)
    record(plan.root, job, 0.0, 1.5, "cpu", [], "c", cost)
    (found,) = samples(plan, "cpu")
    assert (found.stage, found.cost) == ("queries", cost)
    assert list(samples(plan, "cuda")) == []


def test_a_probe_is_read_for_its_own_device_alone(tmp_path):
    probe = Probe("cpu", {"training": 1.0}, {"training": 2.0})
    write_probe(tmp_path, probe)
    assert read_probe(tmp_path, "cpu") == probe
    assert read_probe(tmp_path, "cuda") == Probe()


def test_a_job_too_large_for_this_machine_is_named_with_the_parameter_to_lower(plan, monkeypatch):
    found = job_costs(plan, UNKNOWN)
    monkeypatch.setattr(costs, "memory", lambda: 2**50)
    assert list(too_large(found, "cpu")) == []
    monkeypatch.setattr(costs, "memory", lambda: 390 * MIB)
    lines = "\n".join(too_large(found, "cpu"))
    assert "lower models.models_per_job" in lines
    assert "scores_trak/all: takes about" in lines
    assert "queries/0" not in lines


def test_parameters_to_lower_exist(plan):
    for stage in STAGES.values():
        if stage.lower:
            plan.params.value(stage.lower)


def test_stages_add_up_to_the_total(plan):
    *stages, total = by_stage(job_costs(plan, UNKNOWN))
    assert total.jobs == sum(stage.jobs for stage in stages) == len(plan.jobs())
    assert total.disk == pytest.approx(sum(stage.disk for stage in stages))
    assert total.memory == max(stage.memory for stage in stages)


def test_what_the_store_has_is_no_work(plan, monkeypatch):
    held = plan.jobs("factors")[0]
    monkeypatch.setattr(costs.Store, "holds", lambda self, key: key == held.key)
    work = work_left(plan, plan.jobs())["work"]
    assert [path for path, seconds in work.items() if seconds == 0] == [str(held.path)]


def test_a_dry_run_says_what_is_restored_and_what_is_computed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert forecast(["a"]) == ""
    STALE.parent.mkdir(parents=True)
    STALE.write_text(json.dumps({"work": {"a": 0, "b": 5400, "c": 9000}, "unit": "s"}))
    assert forecast(["a", "b"]).splitlines() == [
        "1 of these results will be taken from the store.",
        "1 of these results will be computed: about 1.5 h of computing.",
    ]
    STALE.write_text(json.dumps({"work": {"b": 7}, "unit": "evaluations"}))
    assert forecast(["b"]).endswith("; `begat plan` says how long it takes.")


def test_the_command_prints_a_table_or_json(plan, monkeypatch):
    monkeypatch.chdir(plan.root)
    command = ["plan", "--params-file", plan.params.params_file]
    table = CliRunner().invoke(cli.commands, command)
    assert table.exit_code == 0, table.output
    found = json.loads(CliRunner().invoke(cli.commands, [*command, "--json"]).output)
    assert [stage["name"] for stage in found["stages"]] == list(STAGES)
    assert found["total"]["jobs"] == len(plan.jobs())


def test_a_probe_times_every_kind_of_evaluation(plan, monkeypatch):
    from begat.planning import probe

    monkeypatch.setattr(probe, "SECONDS", 0.0)
    monkeypatch.setattr(probe, "device_of", lambda plan: "cpu")
    measured = probe.probe(plan)
    kinds = {plan.cost(job).kind for job in plan.jobs()} - {"arrays"}
    assert measured.rates.keys() == measured.starts.keys() == kinds
    assert all(seconds > 0 for seconds in (*measured.rates.values(), *measured.starts.values()))
