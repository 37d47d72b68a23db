"""Soteria: a client keeps back what its update says of the parts of the representation that show the input.

Sun et al. (arXiv 2012.06043, section 4): in the gradient of one fully connected layer, the elements of the
representation that it reads are set to zero where they lie furthest from the input they came from,
the largest |r_i| / ||dr_i/dX||.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from defenses._clipping import expect
from defenses._sparse import count
from privfed.hooks import Spent
from privfed.nets import NetSpec, Params, features, head_names
from privfed.training import Task, train


@dataclass(frozen=True, slots=True)
class Soteria:
    """Trains plainly, then leaves unchanged what the head learnt from some of its inputs.

    The defended layer is the head, which reads the representation r: of its weights, the columns of
    the masked elements stay as they were; everything else is sent. Which elements is decided on the
    client's own records at the parameters the round began with, by |r_i| / ||dr_i/dX|| (the authors'
    approximation of ||r_i (dr_i/dX)^-1||), zero where the element is. The paper has one record; here it
    is the mean over the records. After one step of SGD without weight decay on one record this is the
    paper's update. A head that is trained on features worked out beforehand has those for an input, and
    the rule comes down to |r_i|.

    It earns no claim. A server that knows of it leaves the defended layer out and reconstructs from the
    others (Balunovic et al. 2022, arXiv 2111.04706), and the mask itself depends on the records.

    Attributes:
        share: of the representation's elements that are masked, in (0, 1], rounded up.
        records: most records that decide, drawn from the client's own in each training; each costs a
            backward pass for every element of the representation.
    """

    share: float
    records: int = 16

    masks_head = True

    def __post_init__(self) -> None:
        expect(0 < self.share <= 1, "share in (0, 1]", share=self.share)
        expect(self.records >= 1, "records >= 1", records=self.records)

    def train(self, task: Task) -> Spent[Params]:
        """Parameters after plain training, masked; images and sentences alike, no guarantee.

        Raises:
            ValueError: for parameters without a head, which have no layer to defend.
        """
        weight, _ = head_names(task.spec)
        expect(weight in task.start, f"a head {weight!r} to mask", parameters=", ".join(task.start))
        (trained,) = train([task])
        if not len(task.records):
            return Spent(trained, None)
        order = torch.randperm(len(task.records), generator=task.stream.child("soteria").torch())
        ratio = exposure(task.spec, task.start, task.records.inputs[order[: self.records]])
        masked = ratio.sort(descending=True, stable=True).indices[: count(self.share, len(ratio))]
        kept = trained[weight].clone()
        kept[:, masked] = task.start[weight][:, masked]
        return Spent({**trained, weight: kept}, None)


def exposure(spec: NetSpec, params: Params, inputs: Tensor) -> Tensor:
    """Mean over the records of |r_i| / ||dr_i/dX||, shape (width,): the largest are masked.

    Args:
        spec: the architecture.
        params: of one model.
        inputs: shape (n, *spec.input_shape), n >= 1.
    """
    own = {name: t.detach().unsqueeze(0) for name, t in params.items()}
    x = inputs.detach().clone().requires_grad_()
    r = features(spec, own, x.unsqueeze(0))[0]
    # Records do not touch one another on their way, so one backward pass has each one's gradient.
    slopes = [torch.autograd.grad(r[:, i].sum(), x, retain_graph=True)[0] for i in range(r.shape[1])]
    steep = torch.stack([s.flatten(1).norm(dim=1) for s in slopes], 1)
    size = r.detach().abs()
    smallest = torch.finfo(size.dtype).tiny
    return torch.where(size > 0, size / steep.clamp_min(smallest), size).mean(0)
