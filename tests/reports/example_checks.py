"""Invented judgements for the example record: checks, controls and formal statements."""

from __future__ import annotations

from reports.record import Check, Control, DpAssumption, DpCard, Estimate, Limit, VerdictKind
from tests.reports.example_results import SETTINGS, N, estimate


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


def checks() -> tuple[Check, ...]:
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


def controls() -> tuple[Control, ...]:
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


def dp() -> tuple[DpCard, ...]:
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
            mechanism="40 times a Poisson-sampled Gaussian, noise multiplier 0.8, clipping norm 1.0",
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
