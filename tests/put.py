"""Small artifacts in their places, as their jobs would write them."""

import numpy as np

from begat.evaluation.measures import LOSS
from begat.storage.artifacts import string_array, write


def put(plan, stage, arrays, name="all", **attributes):
    """An artifact in its place, as its job would write it."""
    job = plan.job(stage, name)
    attributes |= {"key": job.key, "read": {}, "made_from": dict(job.made_from)}
    write(plan.root / job.path, stage, attributes, [arrays])


def put_images_and_queries(plan):
    names, groups = plan.spec.dataset.names, len(plan.spec.dataset.groups)
    images, membership = len(names), np.array(plan.spec.dataset.membership)
    number = np.arange(images, dtype=np.int32)
    text = {name: np.zeros((images, 4), np.uint8) for name in ("sha256", "file_sha256")}
    arrays = dict(pixels=np.zeros((images, 1, 8, 8), np.uint8), name=string_array(names), **text)
    arrays |= dict(member_of=np.arange(groups)[:, None] == membership.T)
    put(plan, "images", arrays | dict.fromkeys(("copy_of", "cluster", "label"), number))
    file_names = string_array(["a.png", "[/b].png", "c.png", "d.png"])
    arrays = dict(pixels=np.zeros((4, 1, 8, 8)), noise=np.zeros((4, 1, 1, 8, 8)), name=file_names)
    arrays |= dict(group=string_array(["dogs"] * 4), condition=file_names)
    arrays |= dict(file_sha256=np.zeros((4, 32), np.uint8))
    put(plan, "queries", arrays | dict(label=np.zeros(4, np.int32)), "0")


def put_scores(plan, stage, method, of_clusters=False, **arrays):
    measures = {method: dict(vars(LOSS))}
    more = dict(group_methods=[method], measures=measures, of_clusters=of_clusters)
    put(plan, stage, arrays, methods=[method], **more)
