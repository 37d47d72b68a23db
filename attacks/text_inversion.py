"""Text inversion: gradient inversion in the space of word vectors, then the nearest word at every place.

Sources: Deng et al., "TAG: gradient attack on transformer-based language models" (arXiv 2103.06819), section
3; Balunović et al., "LAMP: extracting text from gradients with language model priors" (arXiv 2202.08827),
section 4, without its language model and its discrete moves.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from attacks._descent import Budget, Optimiser, as_floats, best_restart, restarted
from attacks._inversion import Objective, check_choice, check_positive
from attacks._updates import lanes, movements, rebuilt, recovered_labels
from attacks.gradient_inversion import GradientInversion, initial, inverted
from attacks.interface import Known, Reconstruction
from attacks.token_recovery import vocabulary
from privfed.randomness import Stream
from privfed.release import View


@dataclass(frozen=True, slots=True)
class TextInversion:
    """Rebuild sentences whose gradient points the way an LSTM moved, then read them off as words.

    Embeddings are free while they are optimised; at the end every place takes the nearest vector of the
    attacker's own text, or padding, zero. Labels are recovered first. The LSTM is written out step by
    step, so that its gradient has one. Hardly a word ends up at its place: an LSTM that averages its states
    moves alike for other embeddings of about the same sum (`docs/reconstruction-text.md`). Several records
    come out in no order. The objective is that of the free embeddings, before words are read off.

    Attributes:
        records: sentences to rebuild of each update, also the batch assumed.
        rounds: first updates of each client that are inverted.
        objective: distance between movements: "cosine" or "squared".
        optimiser, lr: "signed_adam", "adam" or "lbfgs", and its learning rate.
        local_lr, local_steps: recipe assumed of the client.
        budget: steps, restarts and when to stop.
    """

    records: int = 1
    rounds: int = 1
    objective: Objective = "cosine"
    optimiser: Optimiser = "signed_adam"
    lr: float = 0.1
    local_lr: float = 0.1
    local_steps: int = 1
    budget: Budget = field(default_factory=lambda: Budget(restarts=2))

    def __post_init__(self) -> None:
        for name, choices in (("objective", Objective), ("optimiser", Optimiser)):
            check_choice(name, getattr(self, name), choices)
        check_positive(self, "records", "rounds", "lr", "local_lr", "local_steps")

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """`records` sentences a client and round; None without updates of whole LSTMs, or own text."""
        found = movements(view, self.rounds)
        if found is None or found[0].family != "lstm":
            return None
        spec, moves = found
        words = vocabulary(known, spec.channels)
        if not len(words):
            return None
        labels = recovered_labels(spec, moves, known, self.records, self.local_lr * self.local_steps)
        one = restarted(lanes(spec, moves, labels), self.budget.restarts)
        start = initial(one, spec.input_shape, False, stream)
        knobs = GradientInversion(
            self.records, self.rounds, self.objective, self.optimiser, tv=0.0, lr=self.lr,
            local_lr=self.local_lr, local_steps=self.local_steps, budget=self.budget,
        )  # fmt: skip
        free = best_restart(inverted(knobs, one, start), self.budget.restarts)
        inputs = nearest_words(free.variables[0], words)
        return rebuilt(moves, inputs, labels, as_floats(free.objective), free.work, free.stopped)


def nearest_words(inputs: Tensor, words: Tensor) -> Tensor:
    """The nearest of the words and of padding, zero, to every vector (..., dimension), in the same shape."""
    options = torch.cat([words.new_zeros(1, words.shape[1]), words]).to(inputs)
    flat = inputs.flatten(0, -2)
    nearest = torch.cat([torch.cdist(part, options).argmin(1) for part in flat.split(1024)])
    return options[nearest].view(inputs.shape)
