"""The three tasks of the personalisation benchmark, each with the schedule that all its methods share.

Small relatives of FedRep's settings (Collins et al., arXiv 2102.07078, section 5), whose nets, local
epochs and optimiser they keep: fewer clients and rounds, and text that is generated.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from privfed.generator import GeneratorTraining
from privfed.nets import NetSpec
from privfed.pipelines.fedrep import SGD
from privfed.training import Engine, Recipe


@dataclass(frozen=True, slots=True)
class Setting:
    """One task with the schedule that all its methods share.

    Attributes:
        name, title: in commands, and in tables.
        net: what clients train.
        clients, newcomers: those who train, and those who only come when training is over.
        held: classes a client holds; 0 where the data bring their own clients.
        train, test: records of one client.
        probe: records of each class for the linear probe.
        fraction: share of the clients in a round.
        rounds: communication rounds (T); a last one, of all clients, may follow.
        sgd: the optimiser of every local training, with the batch size; its epochs do not count.
        head, representation: local epochs of methods that share a representation.
        averaging: local epochs of methods that share the whole model.
        own: local epochs of models that clients train for themselves.
        generator: FedBKD's.
        engine: the faster one for this net.
    """

    name: str
    title: str
    net: NetSpec
    clients: int = 20
    newcomers: int = 5
    held: int = 2
    train: int = 288
    test: int = 96
    probe: int = 100
    fraction: float = 0.25
    rounds: int = 40
    sgd: Recipe = SGD
    head: int = 10
    representation: int = 1
    averaging: int = 5
    own: int = 5
    generator: GeneratorTraining = field(default_factory=GeneratorTraining)
    engine: Engine = "looped"

    def __post_init__(self) -> None:
        for name in ("clients", "newcomers", "train", "test", "probe", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {name}={getattr(self, name)}")

    @property
    def origin(self) -> str:
        """Where the records of the linear probe come from."""
        return "records that no client owns" if self.held else "training records of the new clients"

    def recipe(self, epochs: int) -> Recipe:
        """The task's optimiser for that many epochs."""
        return replace(self.sgd, epochs=epochs)


SETTINGS: dict[str, Setting] = {
    s.name: s
    for s in (
        Setting("fashion", "Fashion-MNIST", NetSpec("mlp", 1, 28, 10, hidden=(512, 256, 64))),
        Setting(
            "cifar",
            "CIFAR-10",
            NetSpec("cnn", 3, 32, 10, hidden=(16, 32, 120, 64)),
            train=300,
            test=100,
            averaging=1,
            own=2,
            generator=GeneratorTraining(size=200, hidden=128, epochs=3, steps=3, sub_batch=32, diversity=1.0),
        ),
        Setting(
            "text",
            "Generated sentiment",
            NetSpec("lstm", 16, 12, 2, hidden=(32, 10)),
            clients=32,
            newcomers=8,
            held=0,
            train=60,
            test=60,
            probe=200,
            sgd=replace(SGD, lr=0.1),
            head=5,
            representation=5,
            averaging=10,
            own=10,
            generator=GeneratorTraining(size=80, hidden=128, lr=1e-3, weight_decay=1e-4, bound=2.0),
            engine="stacked",
        ),
    )
}
