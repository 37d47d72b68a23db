"""An INVENTED audit record: plausible numbers that nothing measured, for the tests of the renderers."""

from __future__ import annotations

from reports.record import Arm, Policy, Record, Run, Setting, Subject, Summary
from tests.reports.example_checks import checks, controls, dp
from tests.reports.example_results import (
    ARMS,
    SETTINGS,
    cells,
    inquiries,
    leakage_order,
    slices,
    tradeoff,
    utility,
)


def _arms() -> tuple[Arm, ...]:
    return tuple(
        Arm(
            id=name,
            title=title,
            pipeline=name.split("-")[0],
            defenses=("DpSgd(noise_multiplier=0.8, clipping_norm=1.0)",) if name.endswith("-dp") else (),
            role="baseline" if name in ("prior-only", "public-classifier") else "audited",
            configuration="rounds=2, clients=4, net=convnet(8x8)",
        )
        for name, title in ARMS.items()
    )


def _settings() -> tuple[Setting, ...]:
    return tuple(
        Setting(
            id=name,
            title=title,
            description="The generative prior was trained on a public shard of "
            + ("the same ten classes." if name == "same-classes" else "five classes no client holds."),
            n_public=400,
            n_candidates=720,
            n_canaries=40,
            n_population=300,
            n_test=337,
            clients=(180, 180, 180, 180),
            classes=10 if name == "same-classes" else 5,
        )
        for name, title in SETTINGS.items()
    )


def _run() -> Run:
    return Run(
        id="7f3a91c2d4e8",
        created="2026-11-22T18:40:00Z",
        tool_version="0.1.0",
        command="privfed audit --seed 20261122 --jobs 2",
        seed=20261122,
        plan="digits",
        plan_sha256="4d" * 32,
        dataset="digits",
        dataset_sha256="9b" * 32,
        federations=16,
        python="3.11.7",
        platform="Linux-6.1-x86_64",
        device="cpu",
        packages={"torch": "2.9.1", "opacus": "1.6.0", "dp-accounting": "0.6.0", "numpy": "2.3.5"},
        engines={"client net": "looped", "prior": "looped", "surrogate": "stacked"},
        determinism="bitwise",
    )


def example() -> Record:
    """The invented record: two settings, five arms, four observers, every verdict and every status."""
    return Record(
        title="Invented example: FedDGM on digits",
        summary=Summary(
            verdict="FAIL",
            exit_code=1,
            counts={"PASS": 2, "FAIL": 2, "INCONCLUSIVE": 2, "ERROR": 1},
            sentence="2 of 6 blocking checks are over their limit.",
        ),
        run=_run(),
        policy=Policy(
            id="packaged-internal",
            sha256="c0ffee" * 10 + "abcd",
            tier="internal",
            purpose="Decide whether FedDGM may run between four sites",
            recipients="",
            privacy_unit="record",
        ),
        subjects=(
            Subject(
                name="FedDGM large model, federation 0",
                kind="weights",
                sha256="a1" * 32,
                parameters=412_000,
            ),
            Subject(name="FedDGM synthetic set, federation 0", kind="synthetic set", sha256="b2" * 32),
        ),
        settings=_settings(),
        arms=_arms(),
        checks=checks(),
        cells=cells(),
        controls=controls(),
        utility=utility(),
        tradeoff=tradeoff(),
        leakage_order=leakage_order(),
        slices=slices(),
        inquiries=inquiries(),
        dp=dp(),
        limitations=(
            "Small images and small nets: larger models may remember more.",
            "Linkage was not tested.",
            "The server is honest but curious; a malicious server was not simulated.",
        ),
    )


def empty() -> Record:
    """The invented record with nothing in it but who, when and against what."""
    return example().model_copy(
        update={
            "summary": Summary(verdict="ERROR", exit_code=5, counts={}, sentence="Nothing was evaluated."),
            "subjects": (),
            "settings": (),
            "arms": (),
            "checks": (),
            "cells": (),
            "controls": (),
            "utility": (),
            "tradeoff": (),
            "leakage_order": (),
            "slices": (),
            "inquiries": (),
            "dp": (),
            "limitations": (),
        }
    )
