"""The network of a setting in whose features likeness is judged: trained on the public shard alone."""

from __future__ import annotations

import hashlib

from safetensors.torch import load_file, save_file

from audits.reconstruction_measures import Evaluator, evaluator
from audits.setting import Setting
from audits.store import default_root, digest, replacing, source_digest
from privfed.nets import NetSpec
from privfed.records import Records
from privfed.training import Recipe

WIDTH, DEPTH = 24, 3
"""Of a convnet, wider and deeper than those that packaged plans put under attack."""
STEPS, BATCH = 130, 32
"""About as many steps whatever the size of the shard."""


def judge_of(setting: Setting) -> Evaluator | None:
    """The judge of a setting; kept, so that all its arms share one.

    It starts from a stream of its own and sees neither a candidate nor anything that was sent. None where
    public records do not carry the labels of the task, and for records that are no images.
    """
    public, net = setting.world.public, setting.world.surrogate
    depth = min(DEPTH, net.size.bit_length() - 1)
    if public.inputs.ndim != 4 or not len(public) or not setting.world.public_labelled or depth < 1:
        return None
    spec = NetSpec("convnet", net.channels, net.size, net.classes, width=WIDTH, depth=depth)
    recipe = Recipe(epochs=max(1, round(STEPS * BATCH / len(public))), batch=BATCH, lr=0.05, momentum=0.9)
    code = source_digest("privfed/training.py", "privfed/nets.py", "audits/setting_judge.py")
    made_of = [setting.digest, _content(public), repr(spec), repr(recipe), code]
    place = default_root() / "judges" / f"{digest(made_of)[:32]}.safetensors"
    if place.is_file():
        return Evaluator(spec, load_file(place))
    made = evaluator(spec, public, recipe, setting.stream.child("judge"))
    place.parent.mkdir(parents=True, exist_ok=True)
    with replacing(place) as part:
        save_file({k: v.contiguous() for k, v in made.params.items()}, part)
    return made


def _content(records: Records) -> str:
    parts = (t.detach().cpu().contiguous().numpy().tobytes() for t in (records.inputs, records.labels))
    return hashlib.sha256(b"".join(parts)).hexdigest()
