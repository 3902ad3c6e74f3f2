"""What a run asks for is refused where it cannot be had, before anything is computed."""

import numpy as np
import pytest
import yaml
from PIL import Image
from small import ROOT

from begat.errors import BegatError
from begat.planning.plan import specify


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data").mkdir()
    for i in range(24):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / f"{i}.png")
    return tmp_path


def requested(root, columns, queries=None, **changes):
    """The run of a manifest with these columns: a function of the image's number each."""
    for name, table, count in (("list", columns, 24), ("queries", queries or {}, 3)):
        rows = [",".join([f"{i}.png", *(str(f(i)) for f in table.values())]) for i in range(count)]
        header = ",".join(["path", *table])
        (root / "data" / f"{name}.csv").write_text("\n".join([header, *rows]) + "\n")
    raw = yaml.safe_load((ROOT / "params" / "tiny.yaml").read_text())
    raw["params_file"] = "params.yaml"
    raw["images"] |= {"source": "folder", "path": "data/list.csv"}
    if queries:
        raw["queries"] |= {"source": "folder", "path": "data/queries.csv"}
    for name, value in {"splits__group_members": 0, **changes}.items():
        section, _, key = name.partition("__")
        raw[section][key] = value
    (root / "params.yaml").write_text(yaml.safe_dump(raw))
    return specify(root)


def artist(i):
    return "ABCDE"[i % 5]


def movement(i):
    return "xxyyz"[i % 5]


def species(i):
    return "cat" if i % 3 else "ant"


CONDITIONAL = {"unet__class_conditional": True}


def test_nested_kinds_of_groups_are_refused_for_group_coded_members_alone(root):
    columns = {"artist": artist, "movement": movement}
    message = "expected 6 members to train on group 'artist: .*', as its code says, found"
    with pytest.raises(BegatError, match=f"params.yaml: splits.group_members: {message}"):
        requested(root, columns, splits__group_members=12)
    assert requested(root, columns).dataset.groups[-1] == "movement: z"


def test_errors_of_a_request_name_the_parameter_file(root):
    columns = {"artist": artist}
    with pytest.raises(BegatError, match=r"^params.yaml: splits.group_members \(group_code"):
        requested(root, columns, splits__group_members=9, splits__group_code="hadamard")


def test_fewer_than_two_groups_leave_no_member_to_draw_queries(root):
    changes = dict(splits__group_members=12, queries__generated_by="group_member")
    assert requested(root, {"artist": artist}, **changes)
    with pytest.raises(
        BegatError, match="queries.generated_by: expected models that splits trains"
    ):
        requested(root, {}, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            dict(queries__count=5_000, queries__queries_per_job=4),
            "at least 5, so that 5000 .* 1000 jobs",
        ),
        (
            dict(queries__count=1_000, queries__queries_per_job=1, splits__members=9_960),
            "at least 10, so that 1000 queries make at most 100 jobs, found 1",
        ),
    ],
)
def test_so_many_blocks_that_a_plan_takes_minutes_are_refused(root, changes, message):
    spec = requested(root, {"artist": artist}, **changes)
    with pytest.raises(
        BegatError, match=f"params.yaml: queries.queries_per_job: expected {message}"
    ):
        spec.blocks  # noqa: B018


def test_an_overlap_that_leaves_every_group_images_of_its_own_is_allowed(root):
    columns = {"artist": lambda i: artist(i) if i else "", "style": lambda i: "" if i > 2 else "s"}
    assert requested(root, columns, splits__group_members=8)


def test_a_conditional_model_takes_groups_of_any_kind_beside_a_column_condition(root):
    columns = {"artist": artist, "movement": movement, "condition": species}
    assert requested(root, columns, **CONDITIONAL).dataset.classes == ("ant", "cat")


@pytest.mark.parametrize(
    "columns",
    [
        {"artist": artist, "movement": movement},
        {"artist": lambda i: artist(i) if i else ""},
        {"artist": artist, "condition": lambda i: species(i) if i else ""},
    ],
)
def test_a_conditional_model_is_refused_where_an_image_has_no_class_or_several(root, columns):
    with pytest.raises(BegatError, match="expected a column named condition .* or exactly one"):
        requested(root, columns, **CONDITIONAL)


def test_own_queries_have_the_class_that_their_condition_names(root):
    columns = {"artist": artist, "condition": species}
    found = requested(
        root, columns, {"condition": lambda i: ("cat", "ant", "cat")[i]}, **CONDITIONAL
    )
    assert found.query_labels == [1, 0, 1]
    grouped = requested(root, columns, {"g": lambda i: ("cat", "ant", "ant")[i]}, **CONDITIONAL)
    assert grouped.query_labels == [1, 0, 0]
    plain = requested(root, columns, {"condition": lambda i: "cow"})
    assert plain.query_labels == [-1, -1, -1]


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ({"condition": lambda i: "cow"}, "'cow' is not one of the training images' classes"),
        ({"condition": lambda i: ""}, "expected a column named condition .* or exactly one group"),
        ({"a": species, "b": species}, "expected a column named condition"),
    ],
)
def test_own_queries_without_a_known_class_are_refused(root, queries, message):
    columns = {"artist": artist, "condition": species}
    spec = requested(root, columns, queries, **CONDITIONAL)
    with pytest.raises(BegatError, match=f"queries.path: {message}"):
        spec.query_labels  # noqa: B018
