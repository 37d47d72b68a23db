"""Reference statistics: fallbacks and refusals."""

import numpy as np
import pytest

from attacks._references import check, side_means, sides
from attacks.interface import References, Signals

NAN = np.nan


def test_means_leave_out_nan_and_the_other_side() -> None:
    values = np.array([[1.0, 10.0], [3.0, NAN], [5.0, 20.0]])[..., None]
    included = np.array([[True, True], [True, True], [False, False]])
    inside, outside = side_means(values, included)
    np.testing.assert_allclose(inside[:, 0], [2.0, 10.0])
    np.testing.assert_allclose(outside[:, 0], [5.0, 20.0])


def test_a_missing_side_is_the_other_one_shifted_by_the_average_gap() -> None:
    values = np.array([[4.0, 7.0, 9.0], [1.0, 5.0, 9.0]])[..., None]
    included = np.array([[True, True, False], [False, True, False]])
    inside, outside = side_means(values, included)
    np.testing.assert_allclose(inside[:, 0], [4.0, 6.0, 12.0])  # gap of the only complete record: 3
    np.testing.assert_allclose(outside[:, 0], [1.0, 3.0, 9.0])


def test_a_record_without_references_takes_the_average_record() -> None:
    values = np.array([[4.0, NAN], [2.0, NAN]])[..., None]
    inside, outside = side_means(values, np.array([[True, True], [False, False]]))
    np.testing.assert_allclose(inside[:, 0], [4.0, 4.0])
    np.testing.assert_allclose(outside[:, 0], [2.0, 2.0])


def test_a_query_nobody_knows_stays_unknown() -> None:
    inside, outside = side_means(np.full((2, 3, 1), NAN), np.zeros((2, 3), dtype=bool))
    assert np.isnan(inside).all()
    assert np.isnan(outside).all()


def test_variances_are_of_residuals_with_the_degrees_of_freedom_taken_off() -> None:
    rng = np.random.default_rng(0)
    values, included = (
        100 * rng.normal(size=(1, 50, 2)) + rng.normal(size=(9, 50, 2)),
        rng.random((9, 50)) < 0.5,
    )
    for side, mask in zip(sides(values, included), (included, ~included), strict=True):
        for query in range(2):
            own = [values[mask[:, i], i, query] for i in range(50)]
            freedom = sum(max(len(v) - 1, 0) for v in own)
            pooled = sum(((v - v.mean()) ** 2).sum() for v in own if len(v)) / freedom
            assert side.pooled[query] == pytest.approx(pooled)
            expected = [v.var(ddof=1) if len(v) > 1 else pooled for v in own]
            np.testing.assert_allclose(side.variance[:, query], expected)


def test_variance_without_residuals_is_the_other_sides_and_then_one() -> None:
    values = np.array([[1.0], [3.0], [9.0]])[..., None]
    inside, outside = sides(values, np.array([[True], [True], [False]]))
    assert inside.pooled[0] == outside.pooled[0] == 2.0
    assert sides(values[:1], np.array([[True]]))[0].pooled[0] == 1.0


def test_a_signal_that_never_varies_has_a_positive_variance() -> None:
    inside, _ = sides(np.ones((4, 3, 1)), np.ones((4, 3), dtype=bool))
    assert (inside.pooled > 0).all()
    assert (inside.variance > 0).all()


def _references(count: int, n: int, queries: int) -> References:
    return References(
        np.zeros((count, n, queries)), np.zeros((count, 2, queries, 1)), np.zeros((count, n), bool)
    )


@pytest.mark.parametrize(
    ("references", "message"),
    [
        (_references(0, 3, 1), r"expected at least one reference, got references=0"),
        (
            _references(4, 2, 1),
            r"expected reference signals of shape \(4, 3, 1\), got candidates=\(4, 2, 1\)",
        ),
        (
            References(np.zeros((4, 3, 1)), np.zeros((4, 2, 1, 1)), np.zeros((4, 5), bool)),
            r"expected inclusion of shape \(4, 3\), got included=\(4, 5\)",
        ),
    ],
)
def test_references_of_other_records_are_refused(references: References, message: str) -> None:
    target = Signals(np.zeros((3, 1)), np.zeros((2, 1, 1)), np.zeros(3, dtype=np.int64))
    with pytest.raises(ValueError, match=message):
        check(target, references)
