"""The classifier trained on the public shard alone: without it no gain can be put down to the clients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from audits.setting import Setting
from audits.store import digest, replacing, source_digest
from privfed.nets import initial
from privfed.training import Recipe, Task, predict, train

MODELS = 4
STEPS = 420
BATCH = 64


def public_accuracy(setting: Setting, root: Path) -> NDArray[np.float64]:
    """Whether models of the large architecture trained on the public shard are right on the test records.

    Returns:
        Shape (4, test): one row per random initialisation; kept by content.
    """
    key = digest([setting.digest, source_digest("audits/public_baseline.py")])
    place = root / "public" / f"{key}.safetensors"
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        correct = _train(setting)
        with replacing(place) as part:
            save_file({"correct": correct}, part)
    kept: NDArray[np.float64] = load_file(place)["correct"].astype(np.float64)
    return kept


def _train(setting: Setting) -> NDArray[np.uint8]:
    world = setting.world
    # About as many steps whatever the size of the shard: enough to converge, and no more.
    epochs = max(1, round(STEPS * BATCH / max(1, len(world.public))))
    recipe = Recipe(epochs=epochs, batch=BATCH, lr=0.01, momentum=0.9, weight_decay=1e-5)
    streams = [setting.stream.child("public", m) for m in range(MODELS)]
    tasks = [
        Task(world.large, initial(world.large, s.child("initial").torch()), world.public, recipe, s)
        for s in streams
    ]
    models = train(tasks, world.large_engine)
    right = [predict(world.large, m, setting.test.inputs).argmax(1) == setting.test.labels for m in models]
    return np.stack([r.numpy() for r in right]).astype(np.uint8)
