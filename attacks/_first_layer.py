"""A first linear layer gives its inputs away: the gradient of each of its rows is a mix of the records.

With a loss L and first-layer outputs y = W x + b, dL/dW = D^T X and dL/db = D^T 1, one row of D a record. The
same holds of the movement after several full-batch steps, with the sum of D over the steps. Sources:
Phong et al. (2018), section III (one record); Geiping et al. (arXiv 2003.14053), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks._inversion import BOX, IMAGE
from attacks._updates import Movement
from privfed.nets import NetSpec, forward, head_names

LAYERS = {"mlp": ("1.weight", "1.bias"), "linear": ("0.weight", "0.bias")}


@dataclass(frozen=True, slots=True)
class FirstLayer:
    """How the first layer moved in one client's training, float64.

    Attributes:
        weight, bias: start less trained, shapes (rows, d) and (rows,).
    """

    weight: Tensor
    bias: Tensor


def first_layer(spec: NetSpec, movement: Movement) -> FirstLayer | None:
    """None where the first layer is no linear one on the inputs, or was not sent."""
    names = LAYERS.get(spec.family, ())
    if not names or any(n not in movement.trained for n in names):
        return None
    weight, bias = (movement.moved(n).double() for n in names)
    return FirstLayer(weight, bias)


def class_differences(layer: FirstLayer) -> FirstLayer:
    """Rows of a softmax regression less the row of the class that pushed back most.

    From zero weights, one full-batch step of rate r on n records moves row c by r / n (S_c - mean over
    classes of S), with S_c the sum of the records of class c, and its bias by the same of counts. So the
    difference of two rows over that of their biases is (S_c - S_k) / (n_c - n_k): with class k absent it is
    the mean record of class c, and the record itself if it is the only one.
    """
    base = int(layer.bias.argmax())
    keep = torch.arange(len(layer.bias), device=layer.bias.device) != base
    return FirstLayer((layer.weight - layer.weight[base])[keep], (layer.bias - layer.bias[base])[keep])


def excess(flat: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Root mean square by which records, flat (m, d), leave the range of pixels; 0 for text and features."""
    if len(shape) != IMAGE:
        return flat.new_zeros(len(flat))
    return (flat.abs() - BOX).clamp_min(0.0).square().mean(1).sqrt()


def in_shape(flat: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Records (m, d) as the net reads them, images held in the box: shape (m, *shape)."""
    return (flat.clamp(-BOX, BOX) if len(shape) == IMAGE else flat).reshape(-1, *shape)


def explained_labels(spec: NetSpec, movement: Movement, inputs: Tensor, pushes: Tensor) -> Tensor:
    """The label with which each record would push on the first layer's bias as it was seen to, shape (m,).

    By the largest cosine between the gradient of its loss under each label and the push. Where the head was
    not broadcast, the client's own stands in; -1 where that was not sent either.

    Args:
        spec: the architecture.
        movement: of the client.
        inputs: shape (m, *input_shape), as rebuilt.
        pushes: shape (m, rows): the row of D of each record, 0 where unknown.
    """
    if not len(inputs) or head_names(spec)[0] not in movement.start:
        return torch.full((len(inputs),), -1, dtype=torch.int64)
    bias = LAYERS[spec.family][1]
    pairs = len(inputs) * spec.classes
    params = {k: v.unsqueeze(0) for k, v in movement.start.items()}
    # A copy of the bias for every pair of record and label, the rest of the net shared by all.
    lanes = {k: v.expand(pairs, *v.shape[1:]) for k, v in params.items()}
    lanes[bias] = lanes[bias].clone().requires_grad_()
    x = inputs.to(params[bias]).repeat_interleave(spec.classes, 0).unsqueeze(1)
    labels = torch.arange(spec.classes, device=x.device).repeat(len(inputs))
    loss = F.cross_entropy(forward(spec, lanes, x).squeeze(1), labels, reduction="sum")
    (found,) = torch.autograd.grad(loss, lanes[bias])
    found = found.double().view(len(inputs), spec.classes, -1) * (pushes != 0).unsqueeze(1)
    return F.cosine_similarity(found, pushes.unsqueeze(1), dim=-1).argmax(1).cpu()
