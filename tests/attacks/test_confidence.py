"""Reading confidences from releases: which ones, in which column, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from attacks import confidence
from attacks._signals import logit_confidence
from attacks.confidence import ModelConfidence, confidences
from attacks.interface import Candidates, Floats
from privfed.nets import NetSpec, Params, initial, module_of, representation_of
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Observer, Transcript, View
from tests.attacks.federations import SPEC, candidates, extract, noise, personal, server_view, weights

STREAM = Stream(0)


def net(seed: int) -> Params:
    return initial(SPEC, torch.Generator().manual_seed(seed))


def plain(params: Params, records: Records) -> Floats:
    with torch.no_grad():
        logits = module_of(SPEC, params)(records.inputs)
    return logit_confidence(logits, records.labels).numpy()


def close(got: Floats, expected: Floats) -> None:
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_large_model_is_one_query_for_everybody() -> None:
    known = candidates(10, 4)
    signals = extract(ModelConfidence("large"), known, server_view(weights(net(1), "large", 3)))
    assert signals.candidates.shape == (10, 1)
    assert signals.population.shape == (4, 1, 1)
    assert signals.candidates.dtype == signals.population.dtype == np.float64
    close(signals.candidates[:, 0], plain(net(1), known.records))
    close(signals.population[:, 0, 0], plain(net(1), known.population))
    assert not signals.clients.any()


def test_surrogate_leaves_out_the_public_initialisation() -> None:
    known = candidates(10, 4)
    view = server_view(*(weights(net(r), "surrogate", r) for r in range(3)))
    signals = extract(ModelConfidence("surrogate"), known, view)
    assert signals.candidates.shape == (10, 2)
    for query, seed in enumerate((1, 2)):
        close(signals.candidates[:, query], plain(net(seed), known.records))
    assert (
        ModelConfidence("surrogate").extract(server_view(weights(net(0), "surrogate", 0)), known, STREAM)
        is None
    )


def test_candidates_meet_their_own_clients_update_and_nothing_in_rounds_it_sat_out() -> None:
    known = candidates(9, 4)
    seeds = {(0, 0): 1, (0, 1): 2, (3, 1): 3}  # client 0 sits out round 3
    view = server_view(*(weights(net(s), "update", r, k) for (r, k), s in seeds.items()))
    signals = extract(ModelConfidence("update"), known, view)
    assert signals.candidates.shape == (9, 2)
    assert signals.population.shape == (4, 2, 2)
    np.testing.assert_array_equal(signals.clients, known.clients.numpy())
    for (round, client), seed in seeds.items():
        query, mine = (0, 3).index(round), known.clients.numpy() == client
        close(signals.candidates[mine, query], plain(net(seed), known.records)[mine])
        close(signals.population[:, query, client], plain(net(seed), known.population))
    assert np.isnan(signals.candidates[known.clients.numpy() == 0, 1]).all()
    assert np.isnan(signals.population[:, 1, 0]).all()
    assert np.isnan(signals.candidates).sum() == 5


def test_shape_does_not_depend_on_who_took_part() -> None:
    known = candidates(6, 4)
    signals = extract(ModelConfidence("update"), known, server_view(weights(net(1), "update", 0, 5)))
    assert signals.population.shape == (4, 1, 2)
    assert np.isnan(signals.candidates).all()


def test_a_client_learns_nothing_from_its_own_update() -> None:
    transcript = Transcript((weights(net(1), "update", 0, 1),), {"surrogate": SPEC})
    view = transcript.view(Observer("client", 1))
    assert len(view.releases) == 1
    assert ModelConfidence("update").extract(view, candidates(4), STREAM) is None


def test_a_view_without_the_artefact_holds_nothing() -> None:
    view = server_view(weights(net(1), "surrogate", 1))
    assert ModelConfidence("large").extract(view, candidates(4), STREAM) is None
    assert ModelConfidence("update").extract(view, candidates(4), STREAM) is None


def test_one_class_leaves_nothing_to_read() -> None:
    spec = replace(SPEC, classes=1)
    params = initial(spec, torch.Generator().manual_seed(0))
    view = View(Observer("server"), (weights(params, "large"),), {"large": spec})
    assert ModelConfidence("large").extract(view, candidates(4), STREAM) is None


@pytest.mark.parametrize("family", ["mlp", "convnet"])
def test_chunks_do_not_change_the_result(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = NetSpec(family, channels=1, size=6, classes=5, width=8, depth=1)
    models = [initial(spec, torch.Generator().manual_seed(s)) for s in range(3)]
    stacked = {k: torch.stack([m[k] for m in models]) for k in models[0]}
    whole = confidences(spec, stacked, noise(11, 0))
    monkeypatch.setattr(confidence, "_ELEMENTS", 3 * 36 * 8 * 2)
    np.testing.assert_allclose(confidences(spec, stacked, noise(11, 0)), whole, atol=1e-5)
    assert confidences(spec, stacked, noise(0, 0)).shape == (3, 0)


def test_a_diverged_model_is_refused() -> None:
    """Scored, it would be NaN for every record and vanish from the audit."""
    params = {k: torch.full_like(v, torch.nan) for k, v in net(0).items()}
    with pytest.raises(ValueError, match=r"expected finite tensor '1\.bias' in release 'large'"):
        ModelConfidence().extract(server_view(weights(params, "large")), candidates(4), STREAM)


def broken(change: dict[str, torch.Tensor | None]) -> Params:
    params: dict[str, torch.Tensor | None] = {**net(0), **change}
    return {k: v for k, v in params.items() if v is not None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"1.bias": torch.zeros(2)},
            r"expected tensor '1.bias' of shape \(48,\), floating, in release 'update' of round 2 "
            r"from client:1, got 1.bias=\(2,\) torch.float32",
        ),
        (
            {"1.bias": torch.zeros(48, dtype=torch.int64)},
            r"expected tensor '1.bias' .* got 1.bias=\(48,\) torch.int64",
        ),
        (
            {"1.bias": None},
            r"expected tensor '1.bias' in release 'update' of round 2 from client:1, got tensors=\[",
        ),
        (
            {"extra": torch.zeros(2)},
            r"expected only parameters of the net in release 'update' of round 2 from client:1, "
            r"got tensor='extra'",
        ),
    ],
)
def test_malformed_weights_are_refused_in_one_line(
    change: dict[str, torch.Tensor | None], message: str
) -> None:
    view = server_view(weights(broken(change), "update", 2, 1))
    with pytest.raises(ValueError, match=message) as caught:
        ModelConfidence("update").extract(view, candidates(4), STREAM)
    assert "\n" not in str(caught.value)


def test_an_update_must_say_whose_it_is() -> None:
    view = server_view(replace(weights(net(0), "update", 1, 0), about=None))
    with pytest.raises(
        ValueError, match="expected the client that release 'update' of round 1 from client:0 is"
    ):
        ModelConfidence("update").extract(view, candidates(4), STREAM)


def test_the_net_must_be_described() -> None:
    view = View(Observer("server"), (weights(net(0), "large"),), {"surrogate": SPEC})
    with pytest.raises(
        ValueError, match=r"expected the view to describe net 'large', got nets=\['surrogate'\]"
    ):
        ModelConfidence("large").extract(view, candidates(4), STREAM)


def test_unknown_artefacts_are_refused() -> None:
    known = "update, aggregate, personal, surrogate, large"
    with pytest.raises(ValueError, match=f"expected artefact to be one of {known}, got artefact='x'"):
        ModelConfidence("x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (
            Records(torch.zeros(2, 3, 6, 6), torch.zeros(2, dtype=torch.int64)),
            r"expected inputs of shape \(1, 6, 6\), got inputs=\(3, 6, 6\)",
        ),
        (
            Records(torch.zeros(2, 1, 6, 6), torch.tensor([0, 5])),
            r"expected labels from 0 to 4, got labels from 0 to 5",
        ),
    ],
)
def test_records_must_fit_the_net(records: Records, message: str) -> None:
    known = Candidates(records, torch.zeros(2, dtype=torch.int64), noise(2, 0), noise(2, 0))
    with pytest.raises(ValueError, match=message):
        ModelConfidence().extract(server_view(weights(net(0), "large")), known, STREAM)


@pytest.mark.parametrize("artefact", ["update", "surrogate", "large", "personal"])
def test_a_representation_without_its_head_holds_nothing(artefact: Any) -> None:
    """What FedRep and FedBKD send down, and FedRep sends up: there are no confidences in it."""
    shared = weights(representation_of(SPEC, net(1)), artefact, 1, OWNER.get(artefact))
    assert ModelConfidence(artefact).extract(server_view(shared), candidates(9, 4), STREAM) is None


OWNER = {"update": 0, "personal": 0}


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (["3.bias"], "expected tensor '3.bias' in release 'large' of round 0 from server, got tensors="),
        (["3.weight", "3.bias", "1.bias"], "expected tensor '1.bias' in release 'large' of round 0"),
        (["1.weight", "1.bias", "3.weight", "3.bias"], "expected tensor '1.bias' in release 'large'"),
    ],
)
def test_damaged_weights_are_no_representation(lost: list[str], message: str) -> None:
    """A head is missing on purpose when both its tensors are, and nothing else."""
    view = server_view(weights(broken(dict.fromkeys(lost)), "large"))
    with pytest.raises(ValueError, match=message):
        ModelConfidence("large").extract(view, candidates(4), STREAM)


def test_a_foreign_tensor_beside_a_representation_is_refused() -> None:
    shared = {**representation_of(SPEC, net(1)), "extra": torch.zeros(2)}
    with pytest.raises(ValueError, match="expected only parameters of the net in release 'large'"):
        ModelConfidence("large").extract(server_view(weights(shared, "large")), candidates(4), STREAM)


def test_personal_models_are_read_by_the_server_and_each_by_its_own_client() -> None:
    known = candidates(9, 4)
    releases = tuple(personal(net(10 * r + k), r, k) for r in range(2) for k in range(2))
    transcript = Transcript(releases, {"surrogate": SPEC})
    owners = known.clients.numpy()
    signals = extract(ModelConfidence("personal"), known, transcript.view(Observer("server")))
    assert signals.candidates.shape == (9, 2)
    assert signals.population.shape == (4, 2, 2)
    for round in range(2):
        for client in range(2):
            mine, model = owners == client, net(10 * round + client)
            close(signals.candidates[mine, round], plain(model, known.records)[mine])
            close(signals.population[:, round, client], plain(model, known.population))
    own = extract(ModelConfidence("personal"), known, transcript.view(Observer("client", 1)))
    np.testing.assert_array_equal(own.candidates[owners == 1], signals.candidates[owners == 1])
    assert np.isnan(own.candidates[owners == 0]).all()
    outsider = transcript.view(Observer("outsider"))
    assert ModelConfidence("personal").extract(outsider, known, STREAM) is None
