import pytest
import torch

from privfed.records import Records, concatenate

RECORDS = Records(torch.arange(12.0).reshape(3, 1, 2, 2), torch.tensor([0, 1, 1]))


def test_take_copies_by_index_and_by_mask() -> None:
    by_index = RECORDS.take(torch.tensor([2, 0]))
    by_mask = RECORDS.take(torch.tensor([True, False, True]))
    assert by_index.labels.tolist() == [1, 0]
    assert torch.equal(by_mask.inputs, RECORDS.inputs[[0, 2]])
    by_mask.inputs.zero_()
    assert RECORDS.inputs.sum() == 66


def test_concatenate_keeps_order() -> None:
    both = concatenate([RECORDS.take(torch.tensor([1])), RECORDS])
    assert len(both) == 4
    assert both.labels.tolist() == [1, 0, 1, 1]
    assert torch.equal(both.inputs[1:], RECORDS.inputs)


@pytest.mark.parametrize(
    ("inputs", "labels"),
    [
        (torch.zeros(3), torch.zeros(3)),
        (torch.zeros(3, 1, 2, 2), torch.zeros(2)),
        (torch.zeros(3, 1, 2, 2), torch.zeros(3, 1)),
    ],
)
def test_shapes_that_are_not_labelled_inputs(inputs: torch.Tensor, labels: torch.Tensor) -> None:
    with pytest.raises(
        ValueError, match=r"expected inputs of shape \(n, \.\.\.\) and labels of shape \(n,\), got"
    ):
        Records(inputs, labels)
