"""Datasets at the door: what is read, and one line for everything that cannot be."""

import shutil

import numpy as np
import pytest
from PIL import Image
from small import ROOT

from begat.errors import BegatError
from begat.io.datasets import check_groups, index, pixels

ASKED = dict(source="folder", path="data/images", size=4, channels=1, resize="refuse")


def picture(path, seed=0, size=(4, 4), mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), np.uint8)
    Image.fromarray(values.squeeze(-1) if channels == 1 else values, mode=None).save(path)
    return values


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        picture(tmp_path / "data" / "images" / f"g{i % 2}" / f"{i}.png", i)
    return tmp_path


def read(root, **changes):
    asked = {**ASKED, **changes}
    dataset = index(asked, root)
    check_groups(dataset)
    return dataset, [image for _, image in pixels(dataset, asked)]


def test_sub_folders_are_groups_and_pixels_are_as_they_are(folder):
    dataset, images = read(folder)
    assert dataset.groups == ("g0", "g1")
    assert dataset.names[:2] == ("g0/0.png", "g0/2.png")
    assert dataset.membership == ((0,), (0,), (0,), (1,), (1,), (1,))
    np.testing.assert_array_equal(images[1][0], picture(folder / "x.png", 2)[..., 0])


def test_images_outside_sub_folders_belong_to_no_group(folder):
    picture(folder / "data" / "images" / "loose.png")
    dataset, _ = read(folder)
    assert dict(zip(dataset.names, dataset.membership, strict=True))["loose.png"] == ()


def test_a_manifest_may_put_an_image_into_several_groups(folder):
    (folder / "data" / "list.csv").write_text(
        "path,artist,style\nimages/g0/0.png,Ada,cubist\nimages/g1/1.png,,cubist\nimages/g0/2.png,Bo,\n"
    )
    dataset, images = read(folder, path="data/list.csv")
    assert dataset.groups == ("artist: Ada", "artist: Bo", "style: cubist")
    assert dataset.membership == ((0, 2), (2,), (1,))
    assert len(images) == 3


def test_one_group_column_gives_its_values_as_names(folder):
    (folder / "data" / "list.csv").write_text("path,g\nimages/g0/0.png,a\nimages/g1/1.png,b\n")
    assert read(folder, path="data/list.csv")[0].groups == ("a", "b")


def manifest(folder, text, name="list.csv"):
    (folder / "data" / name).write_text(text)
    return f"data/{name}"


CONDITIONED = (
    "path,artist,condition,style\nimages/g0/0.png,Ada,cat,cubist\nimages/g1/1.png,,dog,cubist\n"
    "images/g0/2.png,Bo,cat,\nimages/g1/3.png,Bo,ant,\n"
)


def test_a_column_condition_gives_classes_and_no_groups(folder):
    dataset, _ = read(folder, path=manifest(folder, CONDITIONED))
    assert dataset.groups == ("artist: Ada", "artist: Bo", "style: cubist")
    assert dataset.classes == ("ant", "cat", "dog")
    assert dataset.labels == [1, 2, 1, 0]
    few, _ = read(folder, path="data/list.csv", limit=3)
    assert (few.classes, few.labels) == (("cat", "dog"), [0, 1, 0])


def test_the_only_group_is_named_plainly_beside_a_column_condition(folder):
    text = "path,condition,g\nimages/g0/0.png,x,a\nimages/g1/1.png,y,b\n"
    assert read(folder, path=manifest(folder, text))[0].groups == ("a", "b")


def test_without_that_column_an_images_only_group_is_its_class(folder):
    assert read(folder)[0].labels == [0, 0, 0, 1, 1, 1]
    assert read(folder)[0].classes == ("g0", "g1")
    picture(folder / "data" / "images" / "loose.png")
    assert read(folder)[0].labels[-1] == -1


def test_the_digest_knows_conditions(folder):
    first = read(folder, path=manifest(folder, CONDITIONED))[0].digest
    changed = manifest(folder, CONDITIONED.replace("dog", "cow"))
    assert read(folder, path=changed)[0].digest != first


def test_the_digest_knows_bytes_bytes_names_and_groups_but_neither_place_nor_age(folder, tmp_path):
    first = read(folder)[0].digest
    (folder / "data" / "images" / "g0" / "0.png").touch()
    assert read(folder)[0].digest == first
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder / "data", elsewhere / "data")
    assert read(elsewhere)[0].digest == first
    picture(folder / "data" / "images" / "g0" / "0.png", 99)
    changed = read(folder)[0].digest
    assert changed != first
    path = folder / "data" / "images" / "g0" / "0.png"
    path.rename(path.with_name("00.png"))
    assert read(folder)[0].digest not in (first, changed)


def test_a_linked_dataset_is_read_like_one_that_lies_there(folder, tmp_path):
    away = tmp_path / "away"
    (folder / "data" / "images").rename(away)
    (folder / "data" / "images").symlink_to(away)
    assert len(read(folder)[1]) == 6


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "P", "1"])
@pytest.mark.parametrize("channels", [1, 3])
def test_modes_become_the_channels_asked_for(tmp_path, mode, channels):
    place = tmp_path / "data" / "images"
    place.mkdir(parents=True)
    for name in ("a", "b"):
        Image.new(mode, (4, 4)).save(place / f"{name}.png")
    images = read(tmp_path, channels=channels)[1]
    assert images[0].shape == (channels, 4, 4)
    assert images[0].dtype == np.uint8


def test_transparency_is_laid_over_white(tmp_path):
    place = tmp_path / "data" / "images"
    place.mkdir(parents=True)
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(place / "a.png")
    assert (read(tmp_path)[1][0] == 255).all()


@pytest.mark.parametrize("resize", ["crop", "stretch"])
def test_other_sizes_are_resized_only_when_asked(tmp_path, resize):
    picture(tmp_path / "data" / "images" / "a.png", size=(12, 8))
    assert read(tmp_path, resize=resize)[1][0].shape == (1, 4, 4)


def test_cropping_takes_the_centre(tmp_path):
    place = tmp_path / "data" / "images"
    place.mkdir(parents=True)
    wide = Image.new("L", (12, 4), 0)
    wide.paste(200, (4, 0, 8, 4))
    wide.save(place / "a.png")
    assert (read(tmp_path, resize="crop")[1][0] == 200).all()


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    asked = dict(source="digits", size=8, channels=1, resize="refuse")
    dataset = index(asked, ROOT)
    theirs = load_digits()
    assert [of[0] for of in dataset.membership] == theirs.target.tolist()
    ours = np.stack([image[0] for _, image in pixels(dataset, asked)])
    np.testing.assert_array_equal(ours, np.round(theirs.images * 255 / 16))


def damaged(folder, content):
    path = folder / "data" / "images" / "g0" / "0.png"
    path.write_bytes(content)
    return path


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "data" / "images").mkdir(parents=True)
    with pytest.raises(BegatError, match=r"data/images: no image here; expected \.png"):
        read(tmp_path)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(BegatError, match="expected a directory or a .csv manifest"):
        read(tmp_path)


def test_a_file_that_is_no_image_is_refused(folder):
    damaged(folder, b"hello")
    with pytest.raises(BegatError, match="g0/0.png: expected a PNG or JPEG image"):
        read(folder)


def test_a_truncated_image_is_refused(folder):
    path = folder / "data" / "images" / "g0" / "0.png"
    picture(path, size=(64, 64))
    damaged(folder, path.read_bytes()[:-900])
    with pytest.raises(BegatError, match=r"g0/0.png: damaged image \("):
        read(folder, resize="stretch")


def test_sixteen_bits_are_refused_and_not_clipped(tmp_path):
    place = tmp_path / "data" / "images"
    place.mkdir(parents=True)
    Image.new("I;16", (4, 4), 40_000).save(place / "a.png")
    with pytest.raises(BegatError, match="expected 8 bits per channel, found mode I;16"):
        read(tmp_path)


def test_another_size_is_refused_without_a_rule(folder):
    picture(folder / "data" / "images" / "g1" / "1.png", size=(5, 4))
    with pytest.raises(BegatError, match=r"g1/1.png: expected 4x4 pixels .* found 5x4; set"):
        read(folder)


def test_a_group_without_images_is_refused(folder):
    (folder / "data" / "images" / "empty").mkdir()
    with pytest.raises(BegatError, match="images/empty: a group without any image"):
        read(folder)


def test_a_group_that_is_everything_is_refused(folder):
    shutil.rmtree(folder / "data" / "images" / "g1")
    with pytest.raises(BegatError, match="group 'g0' holds all 3 images"):
        read(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,g\nnothing.png,a\n", "line 2: nothing.png: no such file"),
        ("file,g\nimages/g0/0.png,a\n", "expected a column named path, found file, g"),
        ("path,g\nimages/g0/0.png\n", "line 2: expected 2 columns, found 1"),
        ("path,g\nimages/g0/0.png,a,b\n", "line 2: expected 2 columns, found 3"),
        ("path,g\nimages/g0/0.png,a\nimages/g0/0.png,b\n", "line 3: .* stands on line 2 already"),
        ("path,g\n", "no image here"),
        ("", "expected a column named path"),
    ],
)
def test_a_manifest_that_does_not_hold_is_refused_with_its_line(folder, text, message):
    (folder / "data" / "list.csv").write_text(text)
    with pytest.raises(BegatError, match=rf"list.csv: {message}"):
        read(folder, path="data/list.csv")


def test_a_path_outside_data_is_refused(folder):
    with pytest.raises(BegatError, match="expected a path under data/, where DVC watches it"):
        read(folder, path="../somewhere")
