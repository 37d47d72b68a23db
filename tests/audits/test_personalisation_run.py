"""A training is measured right, kept under what made it, and never done twice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from audits import personalisation_run as running
from audits.personalisation_data import GENERATED
from audits.personalisation_methods import METHODS, Method, chosen
from audits.personalisation_run import TUNING, Result, Work, measure, perform, place, recall
from audits.personalisation_tasks import Setting
from audits.personalisation_works import Asked, Done, done_and_missing, estimate, train_missing
from audits.store import write_json
from privfed.federation import Federation, run
from privfed.nets import NetSpec, Params
from privfed.pipelines.fedavg_fine_tuned import FedAvgFineTuned
from privfed.pipelines.interface import Pipeline, World
from tests.audits.personal_setting import SPEC, TINY, TINY_TEXT, Fixed, cohort, constant, perfect

WORK = Work(TINY, "", "fixed", 0)
TEXT = Work(TINY_TEXT, GENERATED, "fedavg", 0)


def broken(setting: Setting) -> Pipeline:
    raise RuntimeError(f"no {setting.name}")


def asked(root: Path, names: str, seeds: int = 1) -> Asked:
    return Asked((TINY_TEXT,), {"text": GENERATED}, chosen(names), seeds, 1, root)


def no_training(*_: object, **__: object) -> Result:
    raise AssertionError("trained again")


def test_perfect_personal_models_under_a_constant_global_one() -> None:
    got = measure(WORK, Fixed(3, perfect(), constant(0)), cohort())
    assert (got.recent, got.final, got.by_round) == (1, 1, (1, 1, 1))
    assert (got.pooled, got.pooled_final) == (8 / 24, 8 / 24)
    assert got.newcomers == 0.5
    assert (got.tuned_recent, got.tuned_final) == (None, None)


def test_constant_personal_models_over_a_perfect_global_one() -> None:
    got = measure(WORK, Fixed(3, constant(1), perfect()), cohort())
    assert (got.recent, got.final) == (0.5, 0.5)
    assert (got.pooled, got.pooled_final, got.probe) == (1, 1, 1)


def test_the_mean_leaves_the_last_round_of_all_clients_out(monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([0.0] * 2 + [0.25] * 5 + [0.75] * 5 + [1.0])
    monkeypatch.setattr(running, "personal_accuracy", lambda *_: next(values))
    got = measure(replace(WORK, setting=replace(TINY, rounds=12)), Fixed(13), cohort())
    assert (got.recent, got.final, len(got.by_round)) == (0.5, 1.0, 13)


def test_without_a_federation_there_is_nothing_global_to_measure() -> None:
    got = measure(WORK, Fixed(), cohort(), federated=False)
    assert (got.pooled, got.pooled_final, got.newcomers, got.probe, got.up, got.down) == (None,) * 6
    assert got.recent == 1


def test_the_untrained_model_has_general_measures_alone() -> None:
    got = measure(WORK, None, cohort())
    assert (got.recent, got.final, got.client_seconds) == (None, None, None)
    assert got.pooled == got.pooled_final
    assert None not in (got.newcomers, got.probe)


def test_tuned_heads_are_those_of_fedavg_with_fine_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Sequence[Params]] = []

    def watch(_: NetSpec, models: Sequence[Params], __: object) -> float:
        seen.append(models)
        return 0.0

    monkeypatch.setattr(running, "personal_accuracy", watch)
    measure(WORK, METHODS["fedavg-ft"].build(TINY), cohort())  # type: ignore[misc]
    pipeline = FedAvgFineTuned(
        TINY.rounds + 1,
        TINY.recipe(TINY.averaging),
        TINY.recipe(TUNING),
        weighting="equal",
        fraction=TINY.fraction,
    )
    clients = tuple(c.train for c in cohort().clients)
    federation = Federation(clients, running._stream(WORK).child("federation"))
    (end,) = run(pipeline, World(SPEC, SPEC, cohort().probe, True), [federation])
    for tuned, expected, plain in zip(seen[-1], end.personal, seen[-2], strict=True):
        assert all(torch.allclose(tuned[name], expected[name]) for name in expected)
        assert not torch.allclose(tuned["3.weight"], plain["3.weight"])


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains(name: str, tmp_path: Path) -> None:
    got = perform(tmp_path, replace(TEXT, method=name), METHODS[name])
    shares = [v for v in (got.recent, got.final, got.pooled, got.newcomers, got.probe) if v is not None]
    assert shares
    assert all(0 <= v <= 1 for v in shares)
    assert (got.recent is None) == (name == "untrained")
    assert (got.pooled is None) == (not METHODS[name].federated)
    assert (got.tuned_recent is not None) == name.startswith(("fedavg", "fedprox"))


def test_what_is_kept_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = perform(tmp_path, TEXT, METHODS["fedavg"])
    monkeypatch.setattr(running, "measure", no_training)
    assert perform(tmp_path, TEXT, METHODS["fedavg"]) == first
    with pytest.raises(AssertionError, match="trained again"):
        perform(tmp_path, replace(TEXT, seed=1), METHODS["fedavg"])


def test_a_damaged_result_counts_as_missing(tmp_path: Path) -> None:
    path = tmp_path / "half.json"
    path.write_text('{"setting": "te', encoding="utf-8")
    assert recall(path) is None


def test_a_result_is_kept_under_all_that_made_it(tmp_path: Path) -> None:
    def where(work: Work, name: str = "fedavg") -> Path:
        return place(tmp_path, work, METHODS[name])

    changed = [
        where(replace(TEXT, seed=1)),
        where(TEXT, "fedrep"),
        where(TEXT, "untrained"),
        where(replace(TEXT, setting=replace(TINY_TEXT, rounds=3))),
        where(replace(TEXT, setting=replace(TINY_TEXT, test=6))),
    ]
    assert len({where(TEXT), *changed}) == 6
    titled = replace(TINY_TEXT, title="other", generator=TINY.generator)
    assert where(replace(TEXT, setting=titled)) == where(TEXT) == where(TEXT, "fedavg-ft")


def test_a_new_pipeline_makes_no_other_result_old() -> None:
    sources = running._sources("privfed.pipelines.fedavg")
    assert {"privfed/training.py", "privfed/federation.py", "audits/personalisation_measures.py"} <= set(
        sources
    )
    assert not {"privfed/pipelines/fedbkd.py", "privfed/generator.py"} & set(sources)
    assert {"privfed/pipelines/_bidirectional.py", "privfed/generator.py"} <= set(
        running._sources("privfed.pipelines.fedbkd")
    )


def test_methods_of_one_pipeline_are_one_training(tmp_path: Path) -> None:
    done, missing = done_and_missing(asked(tmp_path, "fedavg,fedavg-ft,fedrep", seeds=2))
    assert done == []
    assert [[w.method for w in group] for group in missing] == [
        ["fedavg", "fedavg-ft"],
        ["fedavg", "fedavg-ft"],
        ["fedrep"],
        ["fedrep"],
    ]


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    perform(tmp_path, TEXT, METHODS["fedavg"])
    done, missing = done_and_missing(asked(tmp_path, "fedavg,fedrep", seeds=2))
    assert [d.label for d in done] == ["text fedavg seed 0"]
    assert [(g[0].method, g[0].seed) for g in missing] == [("fedavg", 1), ("fedrep", 0), ("fedrep", 1)]


def test_one_failure_costs_no_other_result(tmp_path: Path) -> None:
    wanted = asked(tmp_path, "untrained")
    heard: list[Done] = []
    works = [[Work(TINY_TEXT, GENERATED, name, 0)] for name in ("bad", "untrained")]
    methods = {**wanted.methods, "bad": Method("bad", broken)}
    done = train_missing(replace(wanted, methods=methods), works, heard.append)
    assert [(d.result is None, d.failure) for d in done] == [(True, "RuntimeError: no text"), (False, "")]
    assert heard == done


def test_estimates_are_means_a_round_of_the_same_task(tmp_path: Path) -> None:
    """fedavg took 3 and 5 s for 2 rounds: 2 s a round; fedrep, never trained, counts alike."""
    wanted = asked(tmp_path, "fedavg,fedrep", seeds=2)
    _, missing = done_and_missing(wanted)
    assert estimate(wanted, missing) is None
    (tmp_path / running.FOLDER).mkdir()
    for k, (task, seconds) in enumerate([("text", 3.0), ("text", 5.0), ("fashion", 999.0)]):
        kept = {
            "setting": task,
            "method": "fedavg",
            "seed": k,
            "rounds": 2,
            "seconds": seconds,
            "by_round": [],
        }
        write_json(tmp_path / running.FOLDER / f"{k}.json", kept)
    guess = estimate(wanted, missing)
    assert guess is not None
    assert math.isclose(guess, 4 * 2 * 2.0)
    assert estimate(replace(wanted, jobs=2), missing) == guess / 2


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected methods among untrained, .*, got method='fedsgd'"):
        chosen("fedavg,fedsgd")


def test_methods_come_in_the_order_of_the_table() -> None:
    assert list(chosen("fedrep, fedavg")) == ["fedavg", "fedrep"]
    assert list(chosen("")) == list(METHODS)
