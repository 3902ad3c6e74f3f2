"""Proofs that an image is in a training set or is not, as a script without begat checks them."""

import copy
import hashlib
import json
import math
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import ROOT

from begat.auditing.check_membership import key_of, root_of
from begat.auditing.membership import QueryImage, TrainingSet, trees_with

CHECK = ROOT / "src" / "begat" / "auditing" / "check_membership.py"
BATCH = """
import contextlib, io, json, runpy, sys
script = runpy.run_path(sys.argv[1], run_name="script")
for arguments in json.load(sys.stdin):
    sys.argv[1:] = arguments
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            script["main"]()
        except SystemExit as error:
            print(error.code)
    print(json.dumps(printed.getvalue()))
"""
FILE = b"the file of an image"
few = settings(max_examples=10, deadline=None)
sizes = st.integers(1, 40)


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """Checks proofs by a copy of the script alone, in a process that cannot import begat."""
    folder = tmp_path_factory.mktemp("check")
    script = shutil.copy(CHECK, folder / "script.py")

    def check(proofs, *options):
        command, lists = [sys.executable, "-I", "-c", BATCH, str(script)], []
        for number, proof in enumerate(proofs):
            path = folder / f"{number}.json"
            path.write_text(proof if isinstance(proof, str) else json.dumps(proof))
            lists.append([str(path), *map(str, options)])
        done = subprocess.run(command, input=json.dumps(lists), capture_output=True, text=True)
        assert not done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return check


def digests(number, seed):
    return np.random.default_rng(seed).integers(0, 256, (number, 32), dtype=np.uint8)


def training(number, seed=0, copies=0, files=True):
    """A training set of which the last images are copies of the first; the first's file is FILE."""
    source = np.r_[np.arange(number), np.arange(copies) % number]
    hashes = np.random.default_rng(seed).integers(0, 2**64, number, dtype=np.uint64)[source]
    file = digests(number, seed)
    file[0] = np.frombuffer(hashlib.sha256(FILE).digest(), np.uint8)
    pixels = digests(number, seed + 1)[source]
    return TrainingSet(file[source] if files else None, pixels, hashes, {"run": {"key": "k"}})


def image_of(training, number):
    """A training image as the image in question."""
    pixels = training.pixels[number].tobytes()
    file = pixels if training.file is None else training.file[number].tobytes()
    return QueryImage(file, pixels, int(training.perceptual_hashes[number]))


def stranger(seed, near=None, bits=0, file=None):
    """An image that is not in the set; near a training image in so many bits."""
    random, pixels = digests(2, seed + 10**6)
    similar = 0 if near is None else near ^ (2**bits - 1)
    file = random.tobytes() if file is None else hashlib.sha256(file).digest()
    return QueryImage(file, pixels.tobytes(), similar)


def proof_of(training, image, within=0):
    return json.loads(json.dumps(training.proof(image, training.nearest(image, within))))


def is_valid(text):
    assert text.startswith(("root ", "not proven: "))
    return text.startswith("root ")


@few
@given(sizes, sizes, st.booleans())
def test_every_training_image_is_proven_to_be_in_the_set(check, number, copies, files):
    images = training(number, number, copies, files)
    proofs = [proof_of(images, image_of(images, i)) for i in range(number + copies)]
    texts = check(proofs, "--root", images.root)
    assert all(is_valid(text) and "not in the training set" not in text for text in texts)
    assert all(text.count("in the training set: ") == 1 + files for text in texts)
    assert images.commitment["trees"]["pixels"]["leaves"] == number


@few
@given(sizes, sizes, st.booleans())
def test_every_other_image_is_proven_not_to_be_in_the_set(check, number, copies, files):
    images = training(number, number, copies, files)
    proofs = [proof_of(images, stranger(seed)) for seed in range(20)]
    texts = check(proofs, "--root", images.root)
    assert all(is_valid(text) for text in texts)
    assert all(text.count("not in the training set: ") == 1 + files for text in texts)


def test_in_an_empty_tree_nothing_is(check):
    images = training(1)
    (text,) = check([proof_of(images, stranger(0))])
    assert text.count("not in the training set: ") == 2


def slow_top(seals, prefix=""):
    """The hash of the leaves below a prefix of keys in binary, by its definition."""
    below = [bits for bits in seals if bits.startswith(prefix)]
    if not below:
        return hashlib.sha256().digest()
    if len(below) == 1:
        key = int(below[0], 2).to_bytes(32, "big")
        return hashlib.sha256(b"\0" + key + seals[below[0]]).digest()
    halves = slow_top(seals, prefix + "0") + slow_top(seals, prefix + "1")
    return hashlib.sha256(b"\1" + halves).digest()


@given(sizes, sizes)
@few
def test_the_top_of_a_tree_is_the_hash_of_its_definition(number, copies):
    images, secret = training(number, number, copies), hashlib.sha256(b"\5")
    secret.update(images.file.tobytes() + images.pixels.tobytes())
    seals = {"file": {}, "pixels": {}}
    for file, pixels, perceptual in zip(
        images.file, images.pixels, images.perceptual_hashes, strict=True
    ):
        for kind, digest in (("file", file), ("pixels", pixels)):
            key = hashlib.sha256(b"\4" + digest.tobytes()).digest()
            blind = hashlib.sha256(b"\6" + secret.digest() + key).digest()
            sealed = hashlib.sha256(b"\3" + blind + int(perceptual).to_bytes(8, "big")).digest()
            bits = f"{int.from_bytes(key, 'big'):0256b}"
            seals[kind][bits] = blind if kind == "file" else sealed
    for kind, tree in images.commitment["trees"].items():
        assert tree == {"leaves": number, "top": slow_top(seals[kind]).hex()}
    text = json.dumps(images.commitment, sort_keys=True, separators=(",", ":"))
    assert images.root == hashlib.sha256(b"\2" + text.encode()).hexdigest()


def hashes_in(value, place=()):
    """The places of all texts of hexadecimal digits in a proof."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in items:
            yield from hashes_in(part, (*place, key))
    elif isinstance(value, str) and len(value) in (16, 64):
        yield place


def flip(bit, text):
    """The text of a hash with another bit."""
    return f"{int(text, 16) ^ 1 << bit % (4 * len(text)):0{len(text)}x}"


def put(proof, place, value):
    changed = copy.deepcopy(proof)
    part = changed
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value(part[place[-1]]) if callable(value) else value
    return changed


STRANGE = b"the file of no training image"


def image_and_proof(images, kind):
    """An image in the set, one that is not, or one that resembles a training image."""
    near = int(images.perceptual_hashes[5]) if kind == "near" else None
    image = image_of(images, 0) if kind == "in" else stranger(1, near, 3, STRANGE)
    return image, proof_of(images, image, 4)


KINDS = ("in", "out", "near")
each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
@pytest.mark.parametrize("number", [9, 30])
def test_a_flipped_bit_is_noticed_wherever_it_is(check, kind, number, tmp_path):
    images = training(number)
    _, proof = image_and_proof(images, kind)
    (tmp_path / "image.png").write_bytes(FILE if kind == "in" else STRANGE)
    options = ["--root", images.root, "--image", tmp_path / "image.png"]
    options += ["--pixels-sha256", proof["image"]["pixels_sha256"]]
    options += ["--perceptual-hash", proof["image"]["perceptual_hash"]]
    assert is_valid(check([proof], *options)[0])
    places = [(place, bit) for place in hashes_in(proof) for bit in range(0, 256, 7)]
    flipped = [put(proof, place, partial(flip, bit)) for place, bit in places]
    assert len(flipped) > 500
    assert not [text for text in check(flipped, *options) if is_valid(text)]


FORGERIES = {
    "swapped siblings": lambda path: [path[1], path[0], *path[2:]],
    "upside down": lambda path: path[::-1],
    "cut at the end": lambda path: path[:-1],
    "cut at the top": lambda path: path[1:],
    "nothing": lambda path: [],
    "longer": lambda path: [*path, "00" * 32],
    "too long": lambda path: [*path, *["00" * 32] * 300],
    "upper case": lambda path: [path[0].upper().replace("0", "A"), *path[1:]],
    "no hash": lambda path: ["x" * 64, *path[1:]],
    "space behind": lambda path: [f"{path[0]} ", *path[1:]],
    "numbers": lambda path: [0, *path[1:]],
    "null": lambda path: None,
    "text": lambda path: "".join(path),
}


@each_kind
@pytest.mark.parametrize("forgery", FORGERIES)
def test_another_path_is_rejected(check, kind, forgery):
    images = training(25)
    _, proof = image_and_proof(images, kind)
    places = [("branches", "file", "path"), ("branches", "pixels", "path")]
    places += [("near", "path")] * (kind == "near")
    forged = [put(proof, place, FORGERIES[forgery]) for place in places]
    assert not any(is_valid(text) for text in check(forged, "--root", images.root))


@pytest.mark.parametrize("number", [1, 2, 7, 20])
def test_the_branch_of_another_image_proves_nothing_about_this_one(check, number):
    images = training(number)
    tree = images.trees["file"]
    branches = [tree.branch(key_of(row.tobytes())) for row in images.file]
    forged, honest = [], []
    for seed in range(3):
        honest.append(proof_of(images, stranger(seed)))
        own = honest[-1]["branches"]["file"]
        others = [branch for branch in branches if branch != own]
        forged += [put(honest[-1], ("branches", "file"), branch) for branch in others]
    for i in range(number):
        honest.append(proof_of(images, image_of(images, i)))
        others = branches[:i] + branches[i + 1 :]
        forged += [put(honest[-1], ("branches", "file"), branch) for branch in others]
        forged.append(put(honest[-1], ("branches", "file", "leaf"), None))
    assert all(is_valid(text) for text in check(honest))
    assert forged
    assert not [text for text in check(forged) if is_valid(text)]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("branches", "file"), None),
        (("branches",), {}),
        (("branches", "near"), {}),
        (("commitment", "trees"), {}),
        (("commitment", "trees", "file", "leaves"), 26),
        (("commitment", "images"), 26),
        (("commitment", "format"), "begat-membership-0"),
        (("commitment", "run", "key"), "another run"),
        (("commitment",), None),
        (("image",), {}),
        (("image", "pixels_sha256"), None),
        (("near",), {}),
        (("near",), "x"),
        (("root",), None),
    ],
)
@each_kind
def test_a_proof_with_other_parts_is_rejected(check, kind, place, value):
    images = training(25)
    _, proof = image_and_proof(images, kind)
    assert not is_valid(check([put(proof, place, value)], "--root", images.root)[0])


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("format",), "begat-membership-2", "expected the format begat-membership-1"),
        (("trees",), {}, "expected two trees"),
        (("images",), "many", "invalid literal"),
    ],
)
def test_a_root_of_another_kind_is_rejected(check, place, value, message):
    proof = put(proof_of(training(3), stranger(1)), ("commitment", *place), value)
    proof["branches"] = {kind: proof["branches"][kind] for kind in proof["commitment"]["trees"]}
    (text,) = check([put(proof, ("root",), root_of(proof["commitment"]).hex())])
    assert not is_valid(text)
    assert message in text


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "1", '{"image"', "[" * 100_000])
def test_a_text_that_is_no_proof_is_rejected_in_one_line(check, text):
    (printed,) = check([text])
    assert not is_valid(printed)
    assert len(printed.splitlines()) == 1


def test_a_proof_is_of_one_root_and_of_one_image(check, tmp_path):
    images, others = training(25), training(25, 7)
    proof = proof_of(images, stranger(1))
    assert not is_valid(check([proof], "--root", others.root)[0])
    (tmp_path / "image.png").write_bytes(FILE)
    assert not is_valid(check([proof], "--image", tmp_path / "image.png")[0])
    for name in ("--pixels-sha256", "--perceptual-hash"):
        assert not is_valid(check([proof], name, others.root)[0])
    names = "root, pixels_sha256, perceptual_hash, file_sha256"
    assert check([proof])[0].endswith(f"as the proof states, not compared: {names}\n")


def test_the_script_by_itself_says_by_its_status_whether_a_proof_holds(tmp_path):
    proof = proof_of(training(5), stranger(1))
    for changed, status in ((proof, 0), (put(proof, ("root",), "00" * 32), 1)):
        (tmp_path / "proof.json").write_text(json.dumps(changed))
        command = [sys.executable, "-I", str(CHECK), str(tmp_path / "proof.json")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == status
        assert done.stderr.startswith("not proven: ") == bool(status)


@pytest.mark.parametrize("bits", [0, 1, 4])
def test_a_training_image_that_resembles_the_image_is_proven_with_its_distance(check, bits):
    images = training(25)
    image = stranger(1, int(images.perceptual_hashes[5]), bits)
    proof = proof_of(images, image, 4)
    assert not trees_with(proof)
    (text,) = check([proof], "--root", images.root)
    assert f"in the training set: a perceptual hash that differs in {bits} bits\n" in text
    assert proof_of(images, image, bits - 1)["near"] is None if bits else True


def test_an_image_in_the_set_needs_no_proof_of_resemblance():
    images = training(25)
    assert proof_of(images, image_of(images, 3), 4)["near"] is None


@pytest.mark.parametrize("power", [4, 8, 12])
def test_a_path_is_as_long_as_the_logarithm_of_the_set(power):
    images = training(2**power)
    tree = images.trees["pixels"]
    paths = [tree.branch(key_of(row.tobytes()))["path"] for row in images.pixels[:100]]
    paths += [tree.branch(key_of(row.tobytes()))["path"] for row in digests(100, 9)]
    lengths = [len(path) for path in paths]
    assert max(lengths) <= 2 * power + 2
    assert abs(np.mean(lengths) - power) < 2  # of a random trie: 1.33 more for a leaf


@each_kind
def test_a_proof_has_no_digest_of_another_image(kind):
    images = training(37)
    image, proof = image_and_proof(images, kind)
    text = json.dumps(proof)
    rows = [row.tobytes() for row in (*images.file, *images.pixels)]
    others = [row for row in rows if row not in (image.file, image.pixels)]
    assert not [row for row in others if row.hex() in text]
    disclosed = [row for row in others if key_of(row).hex() in text]
    assert len(disclosed) <= {"in": 0, "out": 2, "near": 3}[kind]
    hashes = [f"{int(h):016x}" for h in images.perceptual_hashes]
    own = 1 if kind in ("in", "near") else 0
    assert sum(perceptual in text for perceptual in hashes) == own


def test_a_leaf_is_hidden_by_all_images_of_the_set():
    images, larger = training(20), training(20)
    larger = TrainingSet(larger.file[:19], larger.pixels[:19], larger.perceptual_hashes[:19])
    key = key_of(images.file[0].tobytes())
    leaves = [each.trees["file"].branch(key)["leaf"] for each in (images, larger)]
    assert leaves[0]["key"] == leaves[1]["key"]
    assert leaves[0]["seal"] != leaves[1]["seal"]


def test_the_root_depends_on_every_image_and_on_the_run_alone():
    images = training(20)
    assert training(20).root == images.root
    shuffled = np.random.default_rng(0).permutation(20)
    tops = TrainingSet(images.file[shuffled], images.pixels, images.perceptual_hashes).commitment
    assert tops["trees"] != images.commitment["trees"]
    roots = {images.root, TrainingSet(images.file, images.pixels, images.perceptual_hashes).root}
    for name in ("file", "pixels", "perceptual_hashes"):
        arrays = {n: getattr(images, n).copy() for n in ("file", "pixels", "perceptual_hashes")}
        arrays[name][4] ^= 1
        roots.add(TrainingSet(**arrays, run=images.run).root)
    assert len(roots) == 5


def test_keys_with_a_long_common_prefix_have_long_paths_and_hold():
    from begat.auditing.check_membership import EMPTY, contains
    from begat.auditing.trees import Tree

    keys = [bytes(31) + bytes([last]) for last in (0, 1, 128)]
    tree = Tree({key: bytes(32) for key in keys})
    assert [len(tree.branch(key)["path"]) for key in keys] == [256, 256, 249]
    assert tree.branch(keys[0])["path"][:248] == [EMPTY.hex()] * 248
    assert tree.branch(b"\xff" * 32)["path"] == [tree._hash(0, 3, 254).hex()]
    assert tree.branch(b"\xff" * 32)["leaf"] is None
    assert not contains({"top": tree.top.hex()}, tree.branch(key_of(b"x")), b"x")


def test_shares_and_numbers_of_near_images_are_those_by_hand():
    hashes = np.array([0b0, 0b1, 0b111, 2**64 - 1, 0b0], np.uint64)
    pixels = digests(5, 0)
    pixels[4] = pixels[0]
    images = TrainingSet(None, pixels, hashes)
    nearest = images.nearest(QueryImage(bytes(32), bytes(32), 0b11), 1)
    assert (nearest.image, nearest.distance, nearest.images_within) == (1, 1, 2)
    assert nearest.sample == 5
    assert nearest.share_with_another == pytest.approx(3 / 5)  # 0, 1 and the copy of 0
    assert math.isclose(images.nearest(QueryImage(b"", b"", 0), 0).share_with_another, 0)
