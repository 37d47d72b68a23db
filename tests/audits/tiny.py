"""A plan, a policy and data small enough to audit within seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

PLAN = """\
schema: privfed-plan/1
id: tiny
title: Tiny
data: digits
seed: 3
federations: 6
canaries: 16
policy: policy.yaml
nets:
  surrogate: {family: mlp, width: 16, depth: 1}
  large: {family: mlp, width: 32, depth: 1}
settings:
  - id: same-classes
    title: Same classes
    split:
      clients: 2
      candidates: 80
      public: 100
      population: 24
      test: 40
    prior: {widths: [8, 16], steps: 10}
arms:
  - id: fedavg
    title: FedAvg
    pipeline: fedavg
    options:
      rounds: 1
      local: {epochs: 10, batch: 16, lr: 0.1}
  - id: positive-twin
    title: Positive twin
    role: control
    pipeline: twin
    options: {trained_on: members, memorising: {epochs: 30, batch: 32, lr: 0.1, momentum: 0.9}}
  - id: null-twin
    title: Null twin
    role: control
    pipeline: twin
    options: {trained_on: public, memorising: {epochs: 10, batch: 32, lr: 0.1, momentum: 0.9}}
"""

POLICY = """\
schema: privacy-policy/1
id: tiny
subject: {tier: internal, purpose: test, recipients: staff, privacy_unit: record}
controls: {positive: {metric: auc, min_lower: 0.6}}
checks:
  - id: AUC-SERVER
    title: Server
    metric: auc
    observer: server
    limit: {op: "<=", value: 0.99}
    rationale: a limit that this test sets
"""


def write(folder: Path, plan: str = PLAN, policy: str = POLICY) -> Path:
    """Puts both into `folder`; returns the plan's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.yaml").write_text(policy, encoding="utf-8")
    path = folder / "plan.yaml"
    path.write_text(plan, encoding="utf-8")
    return path


def noise(path: Path, n: int = 400, classes: int = 4, size: int = 8) -> None:
    """Images of pure noise with random labels: whoever knows one was trained on it, or guesses."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, size, size)).astype(np.uint8)
    np.savez(path, images=images, labels=rng.permutation(np.arange(n) % classes))


TEXT = """\
schema: privfed-plan/1
id: tiny-text
title: Tiny sentences
data: sentiment:12
seed: 3
federations: 4
canaries: 8
policy: policy.yaml
nets:
  surrogate: {family: lstm, hidden: [6, 4]}
  large: {family: lstm, hidden: [6, 4]}
settings:
  - id: other-users
    title: Public shard of other users
    split:
      clients: 4
      candidates: 64
      public: 60
      population: 24
      test: 40
      partition: {minimum: 2}
arms:
  - id: fedavg
    title: FedAvg
    pipeline: fedavg
    options:
      rounds: 1
      local: {epochs: 4, batch: 16, lr: 0.1}
  - id: fedbkd
    title: FedBKD
    pipeline: fedbkd
    options:
      rounds: 2
      head: {epochs: 2, batch: 16, lr: 0.1}
      representation: {epochs: 2, batch: 16, lr: 0.1}
      generator: {size: 16, hidden: 8, epochs: 1, steps: 1, sub_batch: 4, bound: 2.0}
  - id: fedrep
    title: FedRep
    role: baseline
    pipeline: fedrep
    options:
      rounds: 2
      head: {epochs: 2, batch: 16, lr: 0.1}
      representation: {epochs: 2, batch: 16, lr: 0.1}
  - id: positive-twin
    title: Positive twin
    role: control
    pipeline: twin
    options: {trained_on: members, memorising: {epochs: 40, batch: 8, lr: 0.2, momentum: 0.9}}
  - id: null-twin
    title: Null twin
    role: control
    pipeline: twin
    options: {trained_on: public, memorising: {epochs: 4, batch: 16, lr: 0.1, momentum: 0.9}}
"""
"""The same in sentences: clients are users, nothing is distilled through a prior."""
