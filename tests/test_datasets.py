"""Dataset sources: what is read, and one line for everything that cannot be."""

import contextlib
import itertools
import os
import shutil
import socket
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from small import ROOT, folder_with

from begat.data.datasets import check_groups, index, pixels
from begat.errors import BegatError

IMAGES = folder_with()


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
    images = folder_with(**changes)
    dataset = index(images, root)
    check_groups(dataset)
    return dataset, list(pixels(dataset, images))


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
    few, _ = read(folder, path="data/list.csv", max_images=3)
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
def test_modes_become_the_channels_of_the_parameters(tmp_path, mode, channels):
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
def test_other_sizes_are_resized_only_when_required(tmp_path, resize):
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

    images = folder_with(source="digits", size=8)
    dataset = index(images, ROOT)
    theirs = load_digits()
    assert [of[0] for of in dataset.membership] == theirs.target.tolist()
    ours = np.stack([image[0] for image in pixels(dataset, images)])
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
    with pytest.raises(BegatError, match="g0/0.png: expected a PNG, JPEG or WebP image"):
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
        ("path,g\nimages/g0/0.png,a\nimages/g0/0.png,b\n", "line 3: .* is on line 2 already"),
        ("path,g\n", "no image here"),
        ("", "expected a column named path"),
    ],
)
def test_a_manifest_that_does_not_hold_is_refused_with_its_line(folder, text, message):
    (folder / "data" / "list.csv").write_text(text)
    with pytest.raises(BegatError, match=rf"list.csv: {message}"):
        read(folder, path="data/list.csv")


@pytest.mark.parametrize(
    "path", ["../somewhere", "data/../..", "data/../src", "/etc", "data/images/../../x", "data2"]
)
def test_a_path_outside_data_is_refused(folder, path):
    with pytest.raises(BegatError, match="expected a path under data/, where DVC watches it"):
        read(folder, path=path)


def test_a_path_that_comes_back_to_data_is_not_refused(folder):
    assert len(read(folder, path="data/../data/images")[1]) == 6


@pytest.mark.parametrize("path", ["data/\0", "data/" + "x" * 5000, "data/loop/x"])
def test_a_path_that_no_file_can_have_is_refused_in_one_line(folder, path):
    (folder / "data" / "loop").symlink_to("loop")
    one_line(folder, "could not be read", path=path)


def one_line(folder, message, **changes):
    with pytest.raises(BegatError, match=message) as caught:
        read(folder, **changes)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (b"path,g\n../../x.png,a\n", "line 2: ../../x.png: .*expected a path under data/"),
        (b"path,g\n/etc/passwd,a\n", "line 2: /etc/passwd: expected a path relative to"),
        (b"path,g\nimages/g0,a\n", "line 2: images/g0: no such file"),
        (b"path,g\nimages/g0/0.png,a\n./images/g0/0.png,b\n", "line 3: .* is on line 2"),
        (b"path,g\nimages//g0/x/../0.png,a\nimages/g0/0.png,b\n", "line 3: .* is on line 2"),
        (b"path,g,g\nimages/g0/0.png,a,b\n", "expected a name of its own for each column"),
        (b"path,g,\nimages/g0/0.png,a,\n", "expected a name of its own for each column"),
        (b"path,g\n" + b"x" * 200_000 + b",a\n", "expected CSV, found field larger than"),
        (
            b"path,g\n" + b"x" * 5_000 + b",a\n",
            "line 2: x*[.]+: .*could not be read .File name too",
        ),
        (b"path,g\nimages/g0/0.png,\0\n", ".*(control characters|line contains NUL)"),
        (b'path,g\nimages/g0/0.png,"a\nb"\n', "line 3: .*a.nb.*without control characters"),
        (b"path,g\nimages/g0/0.png,a\x1b[2J\n", ".*without control characters"),
        ("path,g\nimages/g0/0.png,é\n".encode("latin-1"), "expected UTF-8, found"),
        ("path,g\nimages/g0/0.png,a\n".encode("utf-16"), "expected UTF-8, found"),
    ],
)
def test_rows_of_a_manifest_that_cannot_be_used_are_refused_in_one_line(folder, rows, message):
    (folder / "data" / "list.csv").write_bytes(rows)
    one_line(folder, f"list.csv: {message}", path="data/list.csv")


def test_spaces_around_a_group_or_a_column_do_not_count(folder):
    text = "path, g\nimages/g0/0.png, a\nimages/g0/2.png,a \nimages/g0/4.png,a\nimages/g1/1.png,b\n"
    dataset, _ = read(folder, path=manifest(folder, text))
    assert (dataset.groups, dataset.membership) == (("a", "b"), ((0,), (0,), (0,), (1,)))


def test_a_manifest_below_data_may_name_images_beside_its_folder(folder):
    (folder / "data" / "lists").mkdir()
    text = "path,g\n../images/g0/0.png,a\n../images/g1/1.png,b\n"
    assert len(read(folder, path=manifest(folder, text, "lists/list.csv"))[1]) == 2


def odd(place, kind):
    """Something below ``place`` that is no ordinary image."""
    path = place / "x.png"
    if kind == "dangling":
        path.symlink_to("nothing.png")
    elif kind == "loop":
        path.symlink_to("x.png")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with contextlib.chdir(place), socket.socket(socket.AF_UNIX) as server:
            server.bind("x.png")
    elif kind == "round":
        (place / "x.png").symlink_to("..", target_is_directory=True)
    else:
        picture(place / f"x{kind}", mode="L") if kind == ".gif" else (place / f"x{kind}").touch()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("dangling", "x.png: a link to nothing"),
        ("loop", "x.png: could not be read .*symbolic links"),
        ("fifo", "x.png: expected a file, found a pipe"),
        ("socket", "x.png: expected a file, found a pipe, socket"),
        ("folder", "x.png: expected an image, found a folder"),
        ("round", "x.png: expected an image, found a folder"),
        (".gif", "x.gif: expected images as .png, .jpg, .jpeg, .webp; convert"),
        (".tiff", "x.tiff: expected images as"),
        (".BMP", "x.BMP: expected images as"),
        (".heic", "x.heic: expected images as"),
    ],
)
def test_what_might_be_meant_as_an_image_and_is_none_is_refused_by_name(folder, kind, message):
    odd(folder / "data" / "images" / "g0", kind)
    one_line(folder, message)


def test_a_folder_within_itself_is_refused(folder):
    (folder / "data" / "images" / "g0" / "again").symlink_to("..", target_is_directory=True)
    one_line(folder, "again: a link to a folder that it lies in")


def test_a_linked_group_is_read_like_one_that_lies_there(folder, tmp_path):
    (folder / "data" / "images" / "g1").rename(tmp_path / "away")
    (folder / "data" / "images" / "g1").symlink_to(tmp_path / "away")
    assert read(folder)[0].membership == ((0,), (0,), (0,), (1,), (1,), (1,))


@pytest.mark.parametrize("name", [".DS_Store", "._0.png", "Thumbs.db", "notes.txt", "list.csv"])
def test_what_no_person_means_as_an_image_is_passed_over(folder, name):
    (folder / "data" / "images" / "g0" / name).write_bytes(b"\0\5\x16\7")
    assert len(read(folder)[1]) == 6


@pytest.mark.parametrize("name", [b"\xff.png", b"a\nb.png", b"\x1b[2J.png"])
def test_a_name_that_cannot_be_stored_or_shown_is_refused_in_one_line(folder, name):
    place = os.fsencode(folder / "data" / "images" / "g0")
    os.rename(place + b"/0.png", place + b"/" + name)
    one_line(folder, "g0: .*: expected a name in UTF-8 without control characters")
    assert len(name.decode(errors="surrogateescape")) < 10


def test_webp_is_read(folder):
    Image.new("L", (4, 4), 70).save(folder / "data" / "images" / "a.webp", lossless=True)
    assert (read(folder)[1][0] == 70).all()


def test_a_picture_is_turned_as_its_camera_was_held(tmp_path):
    place = tmp_path / "data" / "images"
    place.mkdir(parents=True)
    upright = Image.new("L", (4, 4), 0)
    upright.paste(255, (0, 0, 2, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned, so that its picture is to be turned clockwise
    upright.rotate(90).save(place / "a.png", exif=exif)
    np.testing.assert_array_equal(read(tmp_path)[1][0][0], np.asarray(upright))


@pytest.mark.parametrize(("suffix", "count"), [("png", 2), ("webp", 3)])
def test_an_animation_is_refused(tmp_path, suffix, count):
    place = tmp_path / "data" / "images"
    place.mkdir(parents=True)
    first, *others = [Image.new("RGB", (4, 4), (90 * i, 0, 0)) for i in range(count)]
    first.save(place / f"a.{suffix}", save_all=True, append_images=others)
    with pytest.raises(BegatError, match=f"expected one picture, found an animation of {count}"):
        read(tmp_path)


def deep_png(kind, samples):
    """A PNG of 4x4 pixels with 16 bits per sample, which Pillow itself cannot write."""

    def chunk(name, content):
        checked = name + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", 4, 4, 16, kind, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x12\x34" * 4 * samples) * 4)
    chunks = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks)


@pytest.mark.parametrize(("kind", "samples"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_are_refused_in_colour_too(folder, kind, samples):
    damaged(folder, deep_png(kind, samples))
    with pytest.raises(BegatError, match="0.png: expected 8 bits per channel, found mode .*16"):
        read(folder)


def test_all_bad_images_are_told_of_in_one_run(folder):
    for name in ("g0/0.png", "g1/3.png"):
        (folder / "data" / "images" / name).write_bytes(b"no")
    one_line(folder, "2 of 6 images cannot be used: .*g0/0.png: expected.*; .*g1/3.png: expected")
    for path in (folder / "data" / "images").rglob("*.png"):
        path.write_bytes(b"no")
    one_line(folder, "6 of 6 images cannot be used: .*; and 1 more")


def test_the_images_before_a_bad_one_are_still_given(folder):
    damaged(folder, b"no").rename(folder / "data" / "images" / "g1" / "9.png")
    found = pixels(index(IMAGES, folder), IMAGES)
    assert len(list(itertools.islice(found, 5))) == 5
    with pytest.raises(BegatError, match="9.png"):
        next(found)


def rotten(path):
    """Change a byte of a file and keep its size, and its times as far as a program can."""
    content, times = bytearray(path.read_bytes()), path.stat()
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_digest_is_not_remembered_for_other_bytes_of_the_same_age_and_size(folder):
    path = folder / "data" / "images" / "g0" / "0.png"
    before = index(IMAGES, folder)
    rotten(path)
    assert index(IMAGES, folder).digests[0] != before.digests[0]


def test_bytes_other_than_those_of_the_digest_are_never_decoded(folder):
    dataset = index(IMAGES, folder)
    picture(folder / "data" / "images" / "g0" / "0.png", 77)
    with pytest.raises(BegatError, match="g0/0.png: its bytes are not those that this run was pla"):
        list(pixels(dataset, IMAGES))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b"{}", b'{"sha256": 1, "files": 1}']
)
def test_a_damaged_memory_of_digests_is_made_anew(folder, content):
    memory, first = folder / ".begat" / "digests.json", index(IMAGES, folder)
    sound = memory.read_bytes()
    memory.write_bytes(content)
    assert index(IMAGES, folder) == first
    assert memory.read_bytes() == sound
    memory.write_bytes(sound.replace(first.digests[0].encode(), first.digests[1].encode()))
    assert index(IMAGES, folder) == first


def test_digests_are_remembered(folder, monkeypatch):
    first = index(IMAGES, folder)
    monkeypatch.setattr("hashlib.file_digest", None)
    assert index(IMAGES, folder) == first


def test_a_cache_that_cannot_be_written_stops_nothing(folder):
    (folder / ".begat").write_text("in the way")
    assert len(index(IMAGES, folder).digests) == 6
