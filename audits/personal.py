"""How the clients' own models do, each on test records like those of its client.

Those are the records of the classes that the client holds; where clients are users of the data set, the
user's own held-out records. FedRep's measure (Collins et al. 2021, arXiv 2102.07078, section 5), turned
round so that it is a number a test record: then the interval can take the dependence between
federations and between records into account.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attacks.interface import Bools, Floats
from audits.setting import Setting
from privfed.nets import NetSpec, Params
from privfed.records import Records
from privfed.training import predict


def personal_accuracy(setting: Setting, models: Sequence[Params], federation: int) -> Floats | None:
    """Share of the clients that a test record is meant for whose own model is right on it.

    Args:
        setting: whose test records count.
        models: one a client, of the surrogate's architecture; none where clients have none of their own.
        federation: its number, which decides who holds what.

    Returns:
        Shape (test,), in [0, 1]; NaN where a record is meant for no client, as no client holds its
        class. None without models.
    """
    if not models:
        return None
    test = setting.test.to(setting.device)
    all_right = np.stack([right(setting.world.surrogate, params, test) for params in models])
    return mean_over_clients(all_right, meant_for(setting, federation))


def meant_for(setting: Setting, federation: int) -> Bools:
    """Whose models each test record is for, shape (clients, test)."""
    if setting.test_owners is None:
        return classes_held(setting, federation)[:, setting.test.labels.numpy()]
    own: Bools = np.arange(setting.clients)[:, np.newaxis] == setting.test_owners.numpy()
    return own


def classes_held(setting: Setting, federation: int) -> Bools:
    """Which classes each client holds, shape (clients, classes); canaries' wrong labels do not count."""
    held = np.zeros((setting.clients, setting.world.surrogate.classes), dtype=np.bool_)
    honest = (setting.members(federation) & ~setting.canaries).numpy()
    owners, labels = setting.candidates.clients.numpy(), setting.candidates.records.labels.numpy()
    held[owners[honest], labels[honest]] = True
    return held


def mean_over_clients(all_right: Bools, meant: Bools) -> Floats:
    """Mean over the clients that a record is meant for.

    Args:
        all_right: shape (clients, test): whether each client's own model is right.
        meant: same shape: whether the record is for that client.

    Returns:
        Shape (test,), in [0, 1]; NaN where the record is for nobody.

    >>> right = np.array([[True, True], [False, True]])
    >>> mean_over_clients(right, np.array([[True, False], [True, False]])).tolist()
    [0.5, nan]
    """
    clients = meant.sum(0)
    share: Floats = (all_right & meant).sum(0) / np.maximum(clients, 1)
    return np.where(clients > 0, share, np.nan)


def right(spec: NetSpec, params: Params, test: Records) -> Bools:
    """Whether a model labels each test record as it is, shape (test,)."""
    correct: Bools = (predict(spec, params, test.inputs).argmax(1) == test.labels).cpu().numpy()
    return correct
