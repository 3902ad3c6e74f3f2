"""params.yaml, its schema and its documentation say the same; all else is refused in a line."""

import dataclasses
import re

import pytest
import yaml
from small import ROOT

from begat.config.consistency import final_signal, lowest_timestep
from begat.config.load import load
from begat.config.renamed import RENAMED
from begat.config.schema import Params, fields_of, sections
from begat.diffusion.sampling import sampling_timesteps
from begat.diffusion.schedules import SCHEDULES
from begat.errors import BegatError
from begat.planning.generate import PARAMETER_FILES
from begat.planning.plan import specify
from begat.stages import PARAMS
from begat.unlearning import operators

FILES = list(PARAMETER_FILES)
SECTIONS = sections(PARAMS)


def read(root, params_file=None):
    """The parameters, as typed sections."""
    return load(root, params_file, PARAMS)


def written(tmp_path, **changes):
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, values in changes.items():
        raw[name] = {**raw.get(name, {}), **values} if isinstance(values, dict) else values
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return tmp_path


@pytest.mark.parametrize("file", FILES)
def test_shipped_files_are_valid_complete_and_in_the_schemas_order(file):
    params = read(ROOT, file)
    assert params.params_file == file
    raw = yaml.safe_load((ROOT / file).read_text())
    assert list(raw) == ["params_file", "seed", *SECTIONS]
    for section in SECTIONS:
        assert list(raw[section]) == list(fields_of(SECTIONS[section]))


def test_all_yaml_readers_read_the_same():
    from dvc.utils.serialize import load_yaml
    from omegaconf import OmegaConf

    for file in FILES:
        ours = dataclasses.asdict(read(ROOT, file))
        for theirs in (
            load_yaml(str(ROOT / file)),
            yaml.safe_load((ROOT / file).read_text()),
            OmegaConf.to_container(OmegaConf.load(ROOT / file)),
        ):
            assert theirs == ours


def test_use_names_the_file_that_is_read():
    assert read(ROOT, "params/tiny.yaml").models.max_train_steps == 10
    assert read(ROOT).models.max_train_steps == 800


def test_a_params_file_that_uses_another_gets_that_one(tmp_path):
    written(tmp_path, params_file="other.yaml")
    raw = yaml.safe_load((tmp_path / "params.yaml").read_text())
    raw["seed"] = 5
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(raw))
    assert read(tmp_path).seed == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            dict(models=dict(max_train_steps=-3)),
            "models.max_train_steps: expected at least 1, found -3",
        ),
        (
            dict(models=dict(max_train_stesp=3)),
            "models.max_train_stesp: unknown .*; did you mean max_tr",
        ),
        (dict(modelz=dict(a=1)), "modelz: unknown parameter; did you mean models?"),
        (
            dict(models=dict(max_train_steps="abc")),
            "models.max_train_steps: expected a whole number, found 'abc'",
        ),
        (
            dict(models=dict(max_train_steps=3.5)),
            "models.max_train_steps: expected a whole number, found 3.5",
        ),
        (
            dict(models=dict(max_train_steps=None)),
            "models.max_train_steps: expected a whole number, found None",
        ),
        (
            dict(models=dict(max_train_steps=True)),
            "models.max_train_steps: expected a whole number, found True",
        ),
        (dict(models=dict(learning_rate="1e-3")), r"write 1.0e-3, not 1e-3\), found '1e-3'"),
        (
            dict(models=dict(learning_rate=float("nan"))),
            r"expected a finite number .*, found '\.nan'",
        ),
        (
            dict(models=dict(random_flip="yes")),
            "models.random_flip: expected true or false, found 'yes'",
        ),
        (dict(images=dict(source="cifar")), "expected one of digits, folder, found cifar"),
        (dict(images=dict(path="${x}")), "expected text .*without interpolation"),
        (dict(unet=dict(attention=[1, 2])), "expected a list of true and false"),
        (dict(unet=dict(block_out_channels=[8, 0])), "expected at least 1, found 0"),
        (dict(measurements=dict(draws=5)), "measurements.draws: expected a multiple of 2, found 5"),
        (
            dict(queries=dict(num_inference_steps=2000)),
            "queries.num_inference_steps: expected at most .*1000, found 2000",
        ),
        (dict(queries=dict(generated_by="member"), splits=dict(members=0)), "of which it trains 0"),
        (
            dict(diffusion=dict(beta_schedule="linear", num_train_timesteps=400)),
            "0.017 is\\), or squaredcos_cap_v2, found 400",
        ),
        (
            dict(queries=dict(source="folder"), counterfactuals=dict(strength=0.039)),
            "counterfactuals.strength: expected more than 0.039, .*_inference_steps=25 timesteps",
        ),
        (
            dict(models=dict(random_flip=True), scores_trak=dict(draws=10)),
            "scores_trak.draws: .* of 4 with",
        ),
        (
            dict(
                models=dict(random_flip=True),
                scores_trak=dict(draws=12),
                scores_influence=dict(draws=12),
            ),
            "scores_influence.draws: expected a multiple of 8 with models.random_flip, .* found 12",
        ),
        (dict(images=dict(channels=3)), "images.channels: expected 1, as digits are grey"),
        (
            dict(models=dict(max_grad_norm=float("inf"))),
            r"models.max_grad_norm: expected a finite number .*'\.inf'",
        ),
        (
            dict(models=dict(max_grad_norm=10**400)),
            "models.max_grad_norm: expected a finite number .*, found 10000",
        ),
        (
            dict(models=dict(max_grad_norm="x" * 5000)),
            r"models.max_grad_norm: .*, found 'xxx.*xxx\.\.\.$",
        ),
        (dict(models=dict(pipeline="a\nb")), r"models.pipeline: expected text .*'a\\nb'$"),
        (dict(images=dict(source="a\nb")), r"images.source: expected text .*'a\\nb'$"),
        (dict(splits=dict(members=2**63)), "splits.members: expected at most 10000, found 9223"),
        (dict(seed=2**32), "seed: expected at most 4294967295, found 4294967296"),
        (dict(models={"x" * 5000: 1}), r"models.xxx.*xxx\.\.\.: unknown parameter"),
        (dict(models=3), "models: expected a section of keys, found 3"),
        (dict(seed="a"), "seed: expected a whole number, found 'a'"),
    ],
)
def test_impossible_values_are_refused_with_key_expectation_and_finding(tmp_path, changes, message):
    written(tmp_path, **changes)
    with pytest.raises(BegatError, match=f"params.yaml: .*{message}") as error:
        specify(tmp_path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_mirrored_training_runs_with_draws_that_can_be_halved(tmp_path):
    draws = dict(scores_trak=dict(draws=12), scores_features=dict(draws=2))
    assert specify(
        written(tmp_path, models=dict(random_flip=True), **draws)
    ).params.models.random_flip


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("timesteps", [2, 10, 100, 457, 1000])
def test_the_noise_at_the_end_is_that_of_the_schedule(schedule, timesteps):
    last = float(SCHEDULES[schedule](timesteps).alpha_bar[-1])
    if schedule == "linear":
        assert final_signal(schedule, timesteps) == pytest.approx(last, rel=1e-9)
    assert (final_signal(schedule, timesteps) > 0.01) == (last > 0.01)


@pytest.mark.parametrize(
    ("timesteps", "steps"), [(1000, 25), (1000, 7), (50, 20), (10, 10), (9, 2)]
)
def test_the_smallest_strength_leaves_a_timestep_and_a_smaller_one_none(timesteps, steps):
    lowest = lowest_timestep(timesteps, steps)
    assert sampling_timesteps(timesteps, steps)[-1] == lowest
    assert sampling_timesteps(timesteps, steps, (lowest + 0.01) / timesteps) == [lowest]
    assert not sampling_timesteps(timesteps, steps, lowest / timesteps)


@pytest.mark.parametrize("word", ["yes", "on", "off", "No", "TRUE"])
def test_words_that_yaml_readers_disagree_on_are_refused(tmp_path, word):
    written(tmp_path)
    text = (tmp_path / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(
        text.replace("random_flip: false", f"random_flip: {word}")
    )
    with pytest.raises(BegatError, match=f"expected true or false, found '{word}'"):
        read(tmp_path)


def test_a_missing_key_is_named(tmp_path):
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    del raw["models"]["max_train_steps"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(BegatError, match="models.max_train_steps: missing; expected a value"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "params.yaml: expected sections of keys, found list"),
        ("a: [", "params.yaml: line 1: not YAML"),
        ("seed: 1\n# Gr\xf6\xdfe\n".encode("latin-1"), "line 2: expected UTF-8, found byte 0xf6"),
        ("seed: !!float\n", r"line 1: expected no tag, found tag:yaml.org,2002:float"),
        ("seed: !!timestamp ''\n", "line 1: expected no tag"),
        ("a: &a [1, 1]\nb: [*a, *a]\n", "line 1: expected no anchor and no alias"),
        ("a: 1\nb: *a\n", "line 2: expected no anchor and no alias"),
        ("seed: 1\nmodels:\n  a: 1\n  b: 2\n  a: 3\n", "line 5: a: expected once, found twice"),
        ("1: 2\n", "line 1: expected a key that is text"),
        ("seed: 2001-99-99\n", "not YAML: month must be in 1..12"),
        ("[" * 20_000, "not YAML that can be read: nested too deeply"),
        ("seed: " + "9" * 5000, "not YAML: Exceeds the limit"),
        ("#" * 100_001, "expected a parameter file of at most 100000 bytes"),
        (b"\xff\xfe\0", "line 1: expected UTF-8, found byte 0xff"),
        (None, "params.yaml: expected a parameter file here, found none"),
    ],
)
def test_a_file_that_is_no_parameter_file_is_refused(tmp_path, text, message):
    if text is not None:
        text = text if isinstance(text, bytes) else text.encode()
        (tmp_path / "params.yaml").write_bytes(text)
    with pytest.raises(BegatError, match=message) as error:
        read(tmp_path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("params.yaml: ")


@pytest.mark.parametrize("number", ["010", "0x10", "1_000", "1:30", "0b1", "1e3", "1.0e3"])
def test_numbers_that_yaml_readers_disagree_on_are_refused(tmp_path, number):
    written(tmp_path)
    text = (tmp_path / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("seed: 0", f"seed: {number}"))
    with pytest.raises(BegatError, match=f"seed: expected a whole number, found '{number}'"):
        read(tmp_path)


@pytest.mark.parametrize(
    "params_file", [3, ["a"], "a\nb", "x" * 5000, "\0", "data", "/dev/zero", "no.yaml"]
)
def test_a_params_file_that_is_none_is_refused_in_a_line(tmp_path, params_file):
    (tmp_path / "data").mkdir()
    written(tmp_path, params_file=params_file)
    with pytest.raises(
        BegatError, match="params_file: expected text|file here, found none|be read"
    ) as error:
        read(tmp_path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_every_whole_number_has_an_upper_bound():
    for section, owner in {"": PARAMS, **SECTIONS}.items():
        for name, field in fields_of(owner).items():
            bounded = field.metadata["le"] is not None or field.metadata["choices"]
            assert bounded or field.type not in (int, list[int]), f"{section}.{name}"


def test_parameters_outside_all_keys_are_exactly_those_that_decide_which_jobs_there_are():
    plans_only = {
        f"{section}.{key}"
        for section, owner in SECTIONS.items()
        for key, field in fields_of(owner).items()
        if field.metadata["plans_only"]
    }
    assert plans_only == {
        *(f"splits.{k}" for k in ("full", "members", "group_members", "logo", "subsets")),
        *(
            "splits.group_subsets",
            "splits.seeds_per_subset",
            "models.models_per_job",
            "unlearned.groups_per_job",
        ),
        *("queries.count", "queries.queries_per_job"),
        *("unlearned.operator", "unlearned.init", "factors.models"),
    }


@pytest.mark.parametrize("name", operators.OPERATORS)
def test_every_unlearning_operator_can_be_named(tmp_path, name):
    changes = dict(unlearned=dict(operator={"name": name}), unet=dict(class_conditional=True))
    params = specify(written(tmp_path, **changes)).params
    assert params.value("unlearned.operator")["name"] == name


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_is_refused_with_the_new_one(tmp_path, old):
    section, _, key = old.partition(".")
    written(tmp_path, **{section: {key or "any": 1}})
    with pytest.raises(BegatError) as error:
        read(tmp_path)
    assert str(error.value) == f"params.yaml: {old} is now {RENAMED[old]}"


@pytest.mark.parametrize("old", RENAMED)
def test_every_new_name_exists_and_the_old_one_no_more(old):
    exists = {f"{section}.{key}" for section, owner in SECTIONS.items() for key in fields_of(owner)}
    exists |= {"seed", "params_file"}
    names = re.findall(r"\b[a-z_]+\.[a-z_]+\b", RENAMED[old]) or [RENAMED[old]]
    assert all(name in exists for name in names if not name.startswith("unlearned.operator."))
    assert "unlearned.operator" in exists
    assert old not in {*exists, *SECTIONS}


def test_sections_are_typed_and_read_only():
    params = read(ROOT)
    assert isinstance(params, Params)
    for name, owner in SECTIONS.items():
        assert type(params.value(name)) is owner
        assert params.of(owner) is params.value(name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.models.batch_size = 3
