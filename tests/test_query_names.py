"""Names of queries and training images in the artifacts."""

import hashlib
from dataclasses import replace

import numpy as np
from PIL import Image
from small import params_with

from begat.data.datasets import index
from begat.data.query_names import names_of_generated, names_of_supplied
from begat.storage.artifacts import digest_bytes

QUERIES = params_with(queries={"source": "folder", "path": "data/mine"}).queries


def mine(root, names):
    for i, name in enumerate(names):
        path = root / "data" / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), i).save(path)
    return index(QUERIES, root)


def shown(block):
    return {name: block[name].tolist() for name in ("name", "group", "condition")}


def test_user_supplied_queries_keep_their_files_names_folders_and_digests(tmp_path):
    dataset = mine(tmp_path, ["cat/b.png", "a.png", "dog/c.png"])
    block = names_of_supplied(dataset, [-1, 1, 2], ["bird", "cat", "dog"])
    assert shown(block) == {
        "name": ["a.png", "cat/b.png", "dog/c.png"],
        "group": ["", "cat", "dog"],
        "condition": ["", "cat", "dog"],
    }
    expected = [hashlib.sha256(path.read_bytes()).digest() for path in dataset.files]
    assert [row.tobytes() for row in block["file_sha256"]] == expected


def test_a_block_of_queries_is_named_as_the_same_part_of_all(tmp_path):
    dataset = mine(tmp_path, [f"g{i % 2}/{i}.png" for i in range(6)])
    whole = names_of_supplied(dataset, [-1] * 6, ())
    part = names_of_supplied(dataset.only(range(2, 5)), [-1] * 3, ())
    for name, values in whole.items():
        np.testing.assert_array_equal(part[name], values[2:5])


def test_all_groups_of_a_query_are_kept(tmp_path):
    mine(tmp_path, ["a.png", "b.png"])
    text = "path,artist,condition,style\nmine/a.png,Ada,cat,cubist\nmine/b.png,,dog,\n"
    (tmp_path / "data" / "list.csv").write_text(text)
    dataset = index(replace(QUERIES, path="data/list.csv"), tmp_path)
    block = names_of_supplied(dataset, dataset.labels, dataset.classes)
    assert shown(block) == {
        "name": ["mine/a.png", "mine/b.png"],
        "group": ["artist: Ada; style: cubist", ""],
        "condition": ["cat", "dog"],
    }


def test_generated_queries_are_named_by_number_and_class():
    assert shown(names_of_generated(range(3, 5), [1, -1], ["cat", "dog"])) == {
        "name": ["generated-0003", "generated-0004"],
        "group": ["", ""],
        "condition": ["dog", ""],
    }


def test_digests_are_stored_as_their_bytes():
    digests = [hashlib.sha256(text).hexdigest() for text in (b"one", b"two")]
    assert [row.tobytes().hex() for row in digest_bytes(digests)] == digests
