from itertools import product

import pytest
import torch

from privfed.nets import NetSpec
from privfed.release import KINDS, ROLES, Kind, Observer, Release, Role, Transcript, client_name

SENDERS = ("server", "client:0", "client:1")
RECEIVERS = ("server", "clients", "public", "client:0", "client:1")
NOBODY: frozenset[tuple[str, str]] = frozenset()

# (sender, receiver) pairs each observer sees; a party may send to itself, which changes nothing.
SERVER_SEES = frozenset(
    (s, r) for s, r in product(SENDERS, RECEIVERS) if s == "server" or r in ("server", "public")
)
CLIENT_0_SEES = frozenset(
    (s, r)
    for s, r in product(SENDERS, RECEIVERS)
    if s == "client:0" or r in ("client:0", "clients", "public")
)
OUTSIDER_SEES = frozenset((s, "public") for s in SENDERS)
TABLE = [
    (Observer("server"), SERVER_SEES),
    (Observer("malicious_server"), SERVER_SEES),
    (Observer("client", 0), CLIENT_0_SEES),
    (Observer("client", 7), frozenset((s, r) for s in SENDERS for r in ("clients", "public"))),
    (Observer("outsider"), OUTSIDER_SEES),
    (Observer("outsider", holds=frozenset({"large"})), OUTSIDER_SEES),
    (Observer("outsider", holds=frozenset({"images"})), NOBODY),
]


def release(sender: str, receiver: str, name: str = "large", kind: Kind = "weights") -> Release:
    return Release(0, sender, receiver, kind, name, {"w": torch.zeros(2, 3)})


@pytest.mark.parametrize(("observer", "seen"), TABLE, ids=lambda v: getattr(v, "label", ""))
def test_who_sees_what(observer: Observer, seen: frozenset[tuple[str, str]]) -> None:
    found = {(s, r) for s, r in product(SENDERS, RECEIVERS) if observer.sees(release(s, r))}
    assert found == seen


def test_the_table_has_every_role() -> None:
    assert {observer.role for observer, _ in TABLE} == set(ROLES)


def test_nobody_but_the_ends_sees_an_upload() -> None:
    upload = release("client:0", "server", "update")
    seen = [
        o.label for o in (Observer("server"), Observer("client", 1), Observer("outsider")) if o.sees(upload)
    ]
    assert seen == ["server"]


def test_a_view_keeps_order_and_hides_the_rest() -> None:
    upload, model, images = (
        release("client:0", "server", "update"),
        release("server", "public", "large"),
        release("server", "public", "images", "synthetic"),
    )
    nets = {"large": NetSpec("mlp", 1, 8, 10, 16, 1)}
    view = Transcript((upload, model, images), nets).view(Observer("outsider"))
    assert view.releases == (model, images)
    assert view.nets == nets
    assert view.select(kind="synthetic") == (images,)
    assert view.select(name="large") == (model,)
    assert view.select(about=0) == ()
    assert view.select() == view.releases


def test_payload_counts_bytes_of_all_tensors() -> None:
    tensors = {"a": torch.zeros(2, 3), "b": torch.zeros(5, dtype=torch.int64)}
    assert Release(0, "server", "public", "synthetic", "images", tensors).payload_bytes == 24 + 40


@pytest.mark.parametrize(
    ("observer", "label"),
    [
        (Observer("server"), "server"),
        (Observer("malicious_server"), "malicious server"),
        (Observer("client", 3), "client"),
        (Observer("outsider"), "outsider"),
        (Observer("outsider", holds=frozenset({"large", "images"})), "outsider with images, large"),
    ],
)
def test_labels_of_observers(observer: Observer, label: str) -> None:
    assert observer.label == label


def test_names_of_clients() -> None:
    assert client_name(12) == "client:12"


@pytest.mark.parametrize(("role", "client"), [("client", None), ("server", 0), ("outsider", 1)])
def test_only_a_client_has_an_index(role: Role, client: int | None) -> None:
    with pytest.raises(
        ValueError, match=f"expected a client index for role 'client' only, got client={client}"
    ):
        Observer(role, client)


def test_unknown_words_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected role to be one of server, .*got role='auditor'"):
        Observer("auditor")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=rf"expected kind to be one of {', '.join(KINDS)}, got kind='pickle'"
    ):
        release("server", "public", kind="pickle")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected round >= 0, got round=-1"):
        Release(-1, "server", "public", "weights", "large", {})
