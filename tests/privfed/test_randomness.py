import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from privfed.randomness import Name, Stream

PATHS = st.lists(st.one_of(st.integers(0, 99), st.text(max_size=4)), max_size=3).map(tuple)


@given(st.integers(0, 2**64), PATHS, PATHS)
def test_a_path_is_its_steps(seed: int, first: tuple[Name, ...], second: tuple[Name, ...]) -> None:
    stream = Stream(seed).child(*first).child(*second)
    assert stream == Stream(seed, first + second)
    assert 0 <= stream.integer() < 2**63


@given(st.lists(st.tuples(st.integers(0, 3), PATHS), min_size=2, max_size=20, unique=True))
def test_different_places_have_different_seeds(places: list[tuple[int, tuple[Name, ...]]]) -> None:
    assert len({Stream(seed, path).integer() for seed, path in places}) == len(places)


def test_neither_concatenation_nor_type_confuses_places() -> None:
    root = Stream(0)
    places = [
        root.child("ab"),
        root.child("a", "b"),
        root.child(1),
        root.child("1"),
        root.child("1,2"),
        root.child(1, 2),
    ]
    assert len({p.integer() for p in places}) == len(places)


def test_seeds_never_change_between_releases() -> None:
    assert Stream(0).integer() == 7520536977032167579
    assert Stream(7, ("federation", 3)).integer() == 7485677514242420542


def test_generators_start_at_the_beginning_each_time() -> None:
    stream = Stream(1).child("x")
    assert stream.numpy().integers(2**62) == stream.numpy().integers(2**62)
    assert torch.equal(torch.rand(3, generator=stream.torch()), torch.rand(3, generator=stream.torch()))


def test_no_global_generator_is_touched() -> None:
    before = torch.get_rng_state(), repr(np.random.get_state())
    Stream(5).torch()
    Stream(5).numpy().random()
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == repr(np.random.get_state())
