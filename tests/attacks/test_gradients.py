"""Gradients of single records and the movements they are held against."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from attacks import _gradients
from attacks._gradients import Site, align, check_part, check_place, cosines, gradients, record_counts, sites
from privfed.nets import NetSpec, Params, head_names, initial, module_of, parameter_shapes, representation_of
from privfed.records import Records
from privfed.release import SERVER, Release, View, client_name
from tests.attacks.federations import SPEC, candidates, noise, server_view, weights

SPECS = [
    NetSpec("mlp", channels=1, size=6, classes=5, width=8, depth=2),
    NetSpec("convnet", channels=2, size=8, classes=3, width=8, depth=2),
    NetSpec("cnn", channels=1, size=16, classes=3, hidden=(2, 3, 5, 4)),
    NetSpec("lstm", channels=3, size=4, classes=2, hidden=(4, 3)),
    NetSpec("linear", channels=1, size=1, classes=3, width=7),
]


def net(seed: int, spec: NetSpec = SPEC) -> Params:
    return initial(spec, torch.Generator().manual_seed(seed))


def records(spec: NetSpec, n: int) -> Records:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(n, *spec.input_shape, generator=generator)
    return Records(inputs, torch.arange(n) % spec.classes)


def every(spec: NetSpec, model: Params, names: tuple[str, ...], own: Records) -> torch.Tensor:
    return torch.cat(list(gradients(spec, model, names, own)))


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.family)
def test_gradients_are_those_of_one_record_after_another(
    spec: NetSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, own, names = net(0, spec), records(spec, 7), tuple(parameter_shapes(spec))
    module = module_of(spec, model)
    naive = []
    for x, y in zip(own.inputs, own.labels, strict=True):
        module.zero_grad()
        F.cross_entropy(module(x[None]), y[None]).backward()
        naive.append(torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]))
    torch.testing.assert_close(every(spec, model, names, own), torch.stack(naive), rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(_gradients, "_ELEMENTS", 1)
    parts = list(gradients(spec, model, names, own))
    assert [len(p) for p in parts] == [1] * 7
    torch.testing.assert_close(torch.cat(parts), torch.stack(naive), rtol=1e-4, atol=1e-5)


def test_a_heads_gradient_is_softmax_less_one_hot_times_features() -> None:
    spec = SPECS[-1]
    model, own = net(0, spec), records(spec, 6)
    logits = module_of(spec, model)(own.inputs).detach()
    pull = logits.softmax(1) - F.one_hot(own.labels, spec.classes)
    expected = torch.cat([torch.einsum("nc,nf->ncf", pull, own.inputs).flatten(1), pull], 1)
    torch.testing.assert_close(every(spec, model, head_names(spec), own), expected)


def trained(start: Params, seed: int, by: float = 0.1) -> Params:
    return {k: v - by * t for (k, v), t in zip(start.items(), net(seed).values(), strict=True)}


def federation(heads: bool = True, rounds: int = 2) -> View:
    """Two clients over two rounds; client 1 sits the second out."""
    start = net(0) if heads else representation_of(SPEC, net(0))
    sent = [weights(start, "surrogate", r) for r in range(rounds)]
    moved = [weights(trained(net(0), 10 * r + k), "update", r, k) for r, k in ((0, 0), (0, 1), (1, 0))]
    return server_view(*sent, *moved)


def found(view: View, **knobs: Any) -> tuple[Site, ...]:
    result = sites(view, **knobs)
    assert result is not None
    return result[1]


def test_clients_share_the_model_they_were_sent_and_move_apart() -> None:
    first, second = found(federation())
    assert (first.round, first.clients, second.round, second.clients) == (0, (0, 1), 1, (0,))
    assert first.names == tuple(parameter_shapes(SPEC))
    flat = torch.stack([torch.cat([0.1 * t.flatten() for t in net(s).values()]) for s in (0, 1)])
    torch.testing.assert_close(first.moved, flat, atol=1e-6, rtol=1e-4)


def test_on_the_way_every_client_stands_elsewhere() -> None:
    own = found(federation(), at=0.5)
    assert [(s.round, s.clients) for s in own] == [(0, (0,)), (0, (1,)), (1, (0,))]
    for site, seed in zip(own, (0, 1, 10), strict=True):
        half = trained(net(0), seed, 0.05)
        torch.testing.assert_close(site.model["1.weight"], half["1.weight"])
    ended = found(federation(), at=1.0)[1]
    torch.testing.assert_close(ended.model["1.bias"], trained(net(0), 1)["1.bias"])


@pytest.mark.parametrize(("part", "names"), [("head", ("3.weight", "3.bias")), ("representation", None)])
def test_a_part_is_read_alone(part: Any, names: tuple[str, ...] | None) -> None:
    site = found(federation(), part=part)[0]
    assert site.names == (names or ("1.weight", "1.bias"))
    assert site.moved.shape == (2, sum(site.model[n].numel() for n in site.names))
    assert sites(server_view(), part) is None


def test_without_a_broadcast_head_the_clients_own_stands_in() -> None:
    for part in ("all", "representation"):
        own = found(federation(heads=False), part=part)
        assert [(s.round, s.clients) for s in own] == [(0, (0,)), (0, (1,)), (1, (0,))]
        for site, seed in zip(own, (0, 1, 10), strict=True):
            assert site.names == ("1.weight", "1.bias")
            torch.testing.assert_close(site.model["3.weight"], trained(net(0), seed)["3.weight"])
            torch.testing.assert_close(site.model["1.weight"], net(0)["1.weight"])


def test_without_a_broadcast_head_its_movement_is_known_from_the_second_upload_on() -> None:
    (site,) = found(federation(heads=False), part="head")
    assert (site.round, site.clients, site.names) == (1, (0,), ("3.weight", "3.bias"))
    before, after = trained(net(0), 0), trained(net(0), 10)
    moved = torch.cat([(before[n] - after[n]).flatten() for n in site.names])
    torch.testing.assert_close(site.moved[0], moved)
    torch.testing.assert_close(site.model["3.weight"], before["3.weight"])
    assert sites(federation(heads=False, rounds=1), "head") is None


def test_uploads_without_a_head_and_rounds_without_a_broadcast_say_nothing() -> None:
    headless = weights(representation_of(SPEC, net(1)), "update", 0, 0)
    assert sites(server_view(weights(net(0), "surrogate"), headless)) is None
    assert sites(server_view(weights(net(0), "surrogate"), weights(net(1), "update", 3, 0))) is None
    assert sites(server_view(weights(net(0), "surrogate"))) is None
    one = replace(SPEC, classes=1)
    releases = (weights(net(0, one), "surrogate"), weights(net(1, one), "update", 0, 0))
    assert sites(View(server_view().observer, releases, {"surrogate": one})) is None


def test_products_leave_out_what_did_not_move() -> None:
    (site, _) = found(federation())
    sparse = site.moved.clone()
    sparse[0, 5:] = 0
    own = noise(4, 3)
    aligned = align(SPEC, replace(site, moved=sparse), own)
    g = every(SPEC, site.model, site.names, own).double()
    np.testing.assert_allclose(aligned.dots, (g @ sparse.double().T).numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(aligned.squares[:, 0], (g[:, :5] ** 2).sum(1).numpy(), rtol=1e-4)
    np.testing.assert_allclose(aligned.squares[:, 1], (g**2).sum(1).numpy(), rtol=1e-4)
    np.testing.assert_allclose(aligned.lengths, sparse.norm(dim=1).numpy(), rtol=1e-5)
    expected = F.cosine_similarity(g, sparse[1].double()[None])
    np.testing.assert_allclose(cosines(aligned)[:, 1], expected.numpy(), rtol=1e-4)


def test_a_client_that_stayed_has_no_cosine() -> None:
    view = server_view(weights(net(0), "surrogate"), *(weights(net(k), "update", 0, k) for k in range(2)))
    aligned = align(SPEC, found(view)[0], noise(3, 0))
    assert aligned.lengths[0] == 0
    assert np.isnan(cosines(aligned)[:, 0]).all()
    assert np.isfinite(cosines(aligned)[:, 1]).all()


def test_records_are_counted_as_stated_or_as_half_of_the_candidates() -> None:
    stated = {"n": torch.tensor(17)}
    release = Release(0, client_name(1), SERVER, "counts", "count", stated, 1)
    known = candidates(11, 4)
    np.testing.assert_array_equal(record_counts(server_view(), known, (0, 1)), [3.0, 2.5])
    np.testing.assert_array_equal(record_counts(server_view(release), known, (0, 1, 7)), [3.0, 17.0, 2.0])


def test_bad_knobs_are_refused() -> None:
    with pytest.raises(
        ValueError, match="expected part to be one of all, head, representation, got part='x'"
    ):
        check_part("x")
    with pytest.raises(ValueError, match=r"expected at in \[0, 1\], got at=1.5"):
        check_place(1.5)
