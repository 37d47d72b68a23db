"""Invented results for the example record: cells, trade-offs and accuracies that nothing measured."""

from __future__ import annotations

import math

from reports.record import (
    Cell,
    Estimate,
    Inquired,
    LeakageOrder,
    RocPoint,
    Slice,
    Taxonomy,
    TradeOff,
    Utility,
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
        return Cell(**empty, status="not applicable", reason=f"this arm has no {artefact}")  # type: ignore[arg-type]
    if observer == "outsider with images" and attack != "RMIA":
        return Cell(**empty, status="not tested", reason="not in the plan")  # type: ignore[arg-type]
    if (arm, observer, attack) == ("feddgm", "client 0", "LiRA online"):
        return Cell(**empty, status="error", reason="FloatingPointError: overflow encountered in exp")  # type: ignore[arg-type]
    shift = {"loss": -0.03, "LiRA online": 0.0, "RMIA": -0.01}[attack] * (auc > 0.52)
    shift += 0.01 if setting == "other-classes" and arm.startswith("feddgm") and auc > 0.52 else 0
    return _run_cell((setting, arm, observer, artefact), attack, auc + shift)


def cells() -> tuple[Cell, ...]:
    return tuple(_cell(s, a, o, k) for s in SETTINGS for a in ARMS for o in OBSERVERS for k in ATTACKS)


def tradeoff() -> tuple[TradeOff, ...]:
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


def leakage_order() -> tuple[LeakageOrder, ...]:
    """One pair in order and one the wrong way round."""
    made = (("fedavg", 0.83, 0.66), ("feddgm", 0.55, 0.62))
    return tuple(
        LeakageOrder(
            setting="same-classes",
            arm=arm,
            stronger="client updates",
            weaker="released model",
            stronger_attack="LiRA online (server)",
            weaker_attack="RMIA (outsider with large)",
            stronger_auc=estimate("auc", first, 0.02),
            weaker_auc=estimate("auc", second, 0.02),
            difference=Estimate(
                metric="auc_difference",
                value=round(second - first, 4),
                lower=round(second - first - 0.03, 4),
                upper=round(second - first + 0.03, 4),
                method="invented",
                n_in=N,
                n_out=N,
                n_federations=16,
                scope="training algorithm",
            ),
            violated=second - 0.03 > first,
            message="the stronger view's attack is too weak: invented" if second - 0.03 > first else "",
        )
        for arm, first, second in made
    )


def slices() -> tuple[Slice, ...]:
    parts = (("kind", "natural", 0.83), ("kind", "outlier decile", 0.91), ("class", "class 3", 0.5))
    return tuple(
        Slice(
            setting="same-classes",
            arm="fedavg",
            observer="server",
            attack="LiRA online",
            by=by,  # type: ignore[arg-type]
            name=name,
            estimate=estimate("auc", value, 0.03),
        )
        for by, name, value in parts
    )


def inquiries() -> tuple[Inquired, ...]:
    """A reconstruction that identifies, labels that a protocol hands out, and an attack that was not made."""
    place = {"setting": "same-classes", "arm": "fedavg", "observer": "server", "artefact": "client update"}
    return (
        Inquired(
            **place,  # type: ignore[arg-type]
            attack="gradient inversion",
            sought="records",
            status="run",
            estimate=estimate("identification_at_1", 0.71, 0.06),
            chance=0.5,
            baselines={"prior only": estimate("identification_at_1", 0.52, 0.05)},
            details={"one to one": estimate("identification_at_1_matched", 0.68, 0.06)},
            work=12000,
            asked=4,
        ),
        Inquired(
            **place,  # type: ignore[arg-type]
            attack="labels disclosed",
            sought="labels",
            status="run",
            disclosed=True,
            estimate=estimate("label_presence_auc", 1.0, 0.0),
            chance=0.5,
            asked=4,
        ),
        Inquired(
            **place,  # type: ignore[arg-type]
            attack="MIFace",
            sought="records",
            status="not tested",
            reason="not in the plan",
        ),
        Inquired(
            **place | {"arm": "feddgm-dp"},  # type: ignore[arg-type]
            attack="gradient inversion",
            sought="records",
            status="run",
            estimate=estimate("identification_at_1", 0.97, 0.02),
            chance=0.5,
            ceiling=0.731,
            contradicted=True,
            contradiction="gradient inversion, server: at least 95.0 % identified, 73.1 % allowed",
            asked=4,
        ),
        Inquired(
            **place | {"arm": "feddgm-dp"},  # type: ignore[arg-type]
            attack="imprint",
            sought="records",
            status="run",
            estimate=estimate("identification_at_1", 0.52, 0.06),
            chance=0.5,
            no_bound="the claim leaves out: set of labels of each client",
            asked=4,
        ),
        *_inferences(place),
    )


def _inferences(place: dict[str, str]) -> tuple[Inquired, ...]:
    return (
        Inquired(
            **place,  # type: ignore[arg-type]
            attack="property loss test",
            sought="property",
            status="run",
            estimate=estimate("r_squared", 0.31, 0.12),
            chance=0.0,
            baselines={"share of the population": estimate("r_squared", 0.12, 0.04)},
            details={"mean absolute error of the share": estimate("property_share_error", 0.06, 0.02)},
            asked=10,
        ),
        Inquired(
            **place,  # type: ignore[arg-type]
            attack="attribute inference of the label",
            sought="attribute",
            status="run",
            estimate=estimate("attribute_advantage", 0.15, 0.03),
            chance=0.0,
            baselines={"imputation": estimate("attribute_advantage", 0.01, 0.02)},
            details={"accuracy on members": estimate("attribute_accuracy", 0.9, 0.02)},
            asked=10,
        ),
    )


def utility() -> tuple[Utility, ...]:
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
