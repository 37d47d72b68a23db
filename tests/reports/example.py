"""An INVENTED audit record: plausible numbers that nothing measured, for the tests of the renderers."""

from __future__ import annotations

import math

from reports.record import (
    Arm,
    Cell,
    Check,
    Control,
    DpAssumption,
    DpCard,
    Estimate,
    Limit,
    Policy,
    Record,
    RocPoint,
    Run,
    Setting,
    Subject,
    Summary,
    Taxonomy,
    TradeOff,
    Utility,
    VerdictKind,
)

N = 720
BOOTSTRAP = "percentile bootstrap over federations and privacy units together, 2,000 resamples"
MEMBERSHIP = (
    Taxonomy(
        scheme="NIST AI 100-2e2025",
        version="2025",
        id="NISTAML.033",
        name="Data Privacy: membership inference",
    ),
    Taxonomy(
        scheme="MITRE ATLAS", version="5.6.0", id="AML.T0024.000", name="Infer Training Data Membership"
    ),
    Taxonomy(scheme="OWASP ML Top 10", version="2023", id="ML04:2023", name="Membership Inference Attack"),
)
SETTINGS = {"same-classes": "Prior from the same classes", "other-classes": "Prior from other classes only"}
ARMS = {
    "fedavg": "FedAvg",
    "feddgm": "FedDGM",
    "feddgm-dp": "FedDGM + DP-SGD",
    "prior-only": "Prior only",
    "public-classifier": "Public classifier",
}
OBSERVERS = {
    "server": "client update",
    "client 0": "surrogate",
    "outsider with large": "large model",
    "outsider with images": "synthetic images",
}
ATTACKS = ("loss", "LiRA online", "RMIA")
AUCS = {
    "fedavg": (0.83, 0.68, 0.66, None),
    "feddgm": (0.79, 0.55, 0.53, 0.56),
    "feddgm-dp": (0.53, 0.51, 0.505, 0.51),
    "prior-only": (None, 0.50, 0.495, 0.50),
    "public-classifier": (None, None, 0.50, None),
}
ACCURACY = {
    "fedavg": 0.947,
    "feddgm": 0.905,
    "feddgm-dp": 0.792,
    "prior-only": 0.762,
    "public-classifier": 0.835,
}


def estimate(metric: str, value: float, half: float, **params: float) -> Estimate:
    """An invented estimate with a symmetric interval inside [0, 1]."""
    return Estimate(
        metric=metric,
        params=params,
        value=round(value, 4),
        lower=round(max(0.0, value - half), 4),
        upper=round(min(1.0, value + half), 4),
        method=BOOTSTRAP,
        n_in=N,
        n_out=N,
        n_federations=16,
        scope="training algorithm",
    )


def roc(auc: float, points: int = 60, n: int = N) -> tuple[RocPoint, ...]:
    """A smooth invented curve with the given area: TPR = FPR ** ((1 - auc) / auc)."""
    power = (1 - auc) / auc
    rates = [math.exp(math.log(1 / n) * (1 - i / (points - 1))) for i in range(points)]
    curve = []
    for rate in rates:
        tpr = rate**power
        half = 1.96 * math.sqrt(tpr * (1 - tpr) / n) + 1 / n
        curve.append(RocPoint(fpr=min(rate, 1), tpr=tpr, lower=max(0, tpr - half), upper=min(1, tpr + half)))
    return tuple(curve)


def _run_cell(place: tuple[str, str, str, str], attack: str, auc: float) -> Cell:
    setting, arm, observer, artefact = place
    tpr = 0.01 ** ((1 - auc) / auc)
    return Cell(
        setting=setting,
        arm=arm,
        attack=attack,
        configuration=f"{attack.split()[0]}(references=15)",
        observer=observer,
        artefact=artefact,
        status="run",
        taxonomy=MEMBERSHIP,
        auc=estimate("auc", auc, 0.021),
        auc_canaries=estimate("auc", min(0.99, auc + 0.08), 0.05),
        tprs=(estimate("tpr_at_fpr", tpr, 0.35 * tpr + 0.006, fpr=0.01),),
        roc=roc(auc),
    )


def _cell(setting: str, arm: str, observer: str, attack: str) -> Cell:
    artefact = OBSERVERS[observer]
    auc = AUCS[arm][list(OBSERVERS).index(observer)]
    empty: dict[str, str] = {
        "setting": setting,
        "arm": arm,
        "attack": attack,
        "observer": observer,
        "artefact": artefact,
    }
    if auc is None:
        return Cell(**empty, status="not applicable", reason=f"this arm releases no {artefact}")  # type: ignore[arg-type]
    if observer == "outsider with images" and attack != "RMIA":
        return Cell(**empty, status="not tested", reason="not in the plan")  # type: ignore[arg-type]
    if (arm, observer, attack) == ("feddgm", "client 0", "LiRA online"):
        return Cell(**empty, status="error", reason="FloatingPointError: overflow encountered in exp")  # type: ignore[arg-type]
    shift = {"loss": -0.03, "LiRA online": 0.0, "RMIA": -0.01}[attack] * (auc > 0.52)
    shift += 0.01 if setting == "other-classes" and arm.startswith("feddgm") and auc > 0.52 else 0
    return _run_cell((setting, arm, observer, artefact), attack, auc + shift)


def _cells() -> tuple[Cell, ...]:
    return tuple(_cell(s, a, o, k) for s in SETTINGS for a in ARMS for o in OBSERVERS for k in ATTACKS)


def check(
    name: str,
    verdict: VerdictKind,
    judged: Estimate | None,
    at_most: float,
    place: tuple[str, ...],
    **more: object,
) -> Check:
    """One invented check; `place` is (setting, arm, attack, observer)."""
    setting, arm, attack, observer = place
    reasons = {
        "PASS": "within_limit",
        "FAIL": "over_limit",
        "INCONCLUSIVE": "ci_straddles",
        "ERROR": "crashed",
    }
    fields: dict[str, object] = {
        "id": name,
        "title": "Membership inference, average case",
        "rationale": "Proposed limit for internal use; approved with the policy before the run.",
        "meaning": "Can this observer tell who took part better than a coin flip?",
        "blocking": True,
        "limit": Limit(op="<=", value=at_most, policy_line=14),
        "reason_code": reasons[verdict],
        "message": f"{verdict.lower()}: judged by the one-sided bounds",
    }
    return Check.model_validate(
        fields
        | {
            "setting": setting,
            "arm": arm,
            "attack": attack,
            "observer": observer,
            "estimate": judged,
            "verdict": verdict,
        }
        | more
    )


def _checks() -> tuple[Check, ...]:
    tail = {
        "title": "Membership inference, worst-hit records",
        "meaning": "How often is a member named, if only 1 in 100 non-members may be named by mistake?",
    }
    formal = Estimate(
        metric="formal_epsilon",
        params={"delta": 1e-5},
        value=7.6,
        lower=7.6,
        upper=7.6,
        level_lower=1,
        level_upper=1,
        method="recomputed from the ledger, no sampling error",
        n_in=N,
        n_out=N,
        n_federations=16,
        scope="training algorithm",
    )
    server = ("same-classes", "feddgm", "LiRA online", "server")
    outsider = ("same-classes", "feddgm", "RMIA", "outsider with large")
    formal_place = ("same-classes", "feddgm-dp", "accounting", "any")
    return (
        check("MIA-AUC-SERVER", "FAIL", estimate("auc", 0.79, 0.021), 0.65, server),
        check("MIA-TPR-SERVER", "FAIL", estimate("tpr_at_fpr", 0.294, 0.05, fpr=0.01), 0.10, server, **tail),
        check("MIA-AUC-LARGE", "PASS", estimate("auc", 0.53, 0.02), 0.65, outsider),
        check(
            "MIA-TPR-LARGE",
            "INCONCLUSIVE",
            estimate("tpr_at_fpr", 0.022, 0.011, fpr=0.01),
            0.03,
            outsider,
            n_required=1280,
            **tail,
        ),
        check(
            "EPS-FORMAL",
            "INCONCLUSIVE",
            formal,
            8.0,
            formal_place,
            title="Formal privacy bound",
            meaning="Is the privacy loss that the mathematics allows within the limit?",
            reason_code="assumption_unverified",
            message="inconclusive: 1 of 3 assumptions is not verified",
        ),
        check(
            "MIA-AUC-CLIENT",
            "ERROR",
            None,
            0.65,
            ("same-classes", "feddgm", "LiRA online", "client 0"),
            blocking=False,
            message="error: FloatingPointError: overflow encountered in exp",
        ),
        check(
            "UTIL-FLOOR",
            "PASS",
            estimate("accuracy", 0.905, 0.02),
            0.70,
            ("same-classes", "feddgm", "none", "none"),
            title="Accuracy floor",
            meaning="Is the delivered model still useful?",
            limit=Limit(op=">=", value=0.70, policy_line=52),
        ),
    )


def _controls() -> tuple[Control, ...]:
    rows = []
    for setting in SETTINGS:
        place = {"setting": setting, "observer": "server"}
        rows += [
            Control(
                kind="positive",
                arm="planted leak",
                attack="LiRA online",
                estimate=estimate("auc", 0.93, 0.02),
                expectation="lower bound >= 0.60",
                passed=True,
                **place,
            ),
            Control(
                kind="negative",
                arm="feddgm",
                attack="LiRA online",
                estimate=estimate("auc", 0.497, 0.02),
                expectation="interval contains 0.50",
                passed=True,
                **place,
            ),
            Control(
                kind="blind",
                arm="none",
                attack="raw-record classifier",
                estimate=estimate("auc", 0.512, 0.02),
                expectation="interval contains 0.50",
                passed=setting == "same-classes",
                reason="" if setting == "same-classes" else "members and non-members differ in brightness",
                **place,
            ),
        ]
    return tuple(rows)


def _dp() -> tuple[DpCard, ...]:
    return tuple(
        DpCard(
            setting=setting,
            arm="feddgm-dp",
            epsilon=7.6,
            delta=1e-5,
            unit="record",
            neighbouring="add_or_remove_one",
            accountant="dp-accounting 0.6.0, PLD",
            sampling="Poisson, rate 0.05",
            mechanism="40 compositions of a Poisson-sampled Gaussian, noise multiplier 0.8, clipping norm 1.0",
            epsilons={
                "RDP (Opacus)": 8.1,
                "PLD, sampling without replacement": 9.4,
                "no amplification": 31.0,
            },
            max_tpr={"0.0001": 0.2, "0.001": 0.99, "0.01": 1.0, "0.1": 1.0},
            outside=("which classes each client holds", "how many records each client holds"),
            assumptions=(
                DpAssumption(
                    name="Poisson sampling used",
                    verified=True,
                    evidence="batch sizes vary as expected, p = 0.41",
                ),
                DpAssumption(
                    name="Gradients clipped per record",
                    verified=True,
                    evidence="largest norm seen 1.0000 <= 1.0",
                ),
                DpAssumption(
                    name="Cryptographically secure noise",
                    verified=False,
                    evidence="a seeded generator was used",
                ),
            ),
        )
        for setting in SETTINGS
    ) + tuple(
        DpCard(setting=setting, arm=arm, epsilon=None, delta=None)
        for setting in SETTINGS
        for arm in ("fedavg", "feddgm")
    )


def _tradeoff() -> tuple[TradeOff, ...]:
    rows = []
    for setting in SETTINGS:
        for arm, aucs in AUCS.items():
            for (observer, _), auc in zip(OBSERVERS.items(), aucs, strict=True):
                if auc is not None:
                    gap = -0.02 if setting == "other-classes" and arm != "fedavg" else 0.0
                    rows.append(
                        TradeOff(
                            setting=setting,
                            arm=arm,
                            observer=observer,
                            attack="LiRA online",
                            leakage=estimate("auc", auc, 0.021),
                            accuracy=estimate("accuracy", ACCURACY[arm] + gap, 0.018),
                        )
                    )
    return tuple(rows)


def _utility() -> tuple[Utility, ...]:
    return tuple(
        Utility(
            setting=setting,
            arm=arm,
            model="large model",
            estimate=estimate(
                "accuracy",
                accuracy - (0.02 if setting == "other-classes" and arm != "fedavg" else 0),
                0.018,
            ),
        )
        for setting in SETTINGS
        for arm, accuracy in ACCURACY.items()
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
        checks=_checks(),
        cells=_cells(),
        controls=_controls(),
        utility=_utility(),
        tradeoff=_tradeoff(),
        dp=_dp(),
        limitations=(
            "Small images and small nets: larger models may remember more.",
            "Attribute inference and linkage were not tested.",
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
            "dp": (),
            "limitations": (),
        }
    )
