import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from privfed import data_files, leaf_files
from privfed.datasets import DatasetError, load

Users = dict[str, tuple[list[Any], list[Any]]]
WHITE, BLACK = [1.0] * 4, [0, 0.0, 0, 0.5]


def tweet(text: str) -> list[str]:
    return ["17", "Mon Apr 06", "NO_QUERY", "someone", text, "training"]


FEMNIST: Users = {"f1": ([WHITE, BLACK, WHITE], [7, 40, 7]), "f0": ([BLACK], [40])}
SENT140: Users = {
    "ann": ([tweet("So GOOD!"), tweet("bad :("), tweet("so good !")], [4, 0, 4]),
    "bob": ([tweet("fine"), tweet("fine day"), tweet("worse"), tweet("@ann odd")], [4, 4, 0, 0]),
    "cy": ([tweet("@ann odd"), tweet("...")], [4, 0]),
}


def content(users: Users) -> dict[str, Any]:
    return {
        "users": list(users),
        "num_samples": [len(x) for x, _ in users.values()],
        "user_data": {name: {"x": x, "y": y} for name, (x, y) in users.items()},
    }


def write(path: Path, users: Users, **changes: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content(users) | changes), encoding="utf-8")


def test_femnist(tmp_path: Path) -> None:
    write(tmp_path / "all_data_0.json", FEMNIST, hierarchies=[])
    (tmp_path / "notes.txt").write_text("ignored")
    dataset = load("leaf:.", tmp_path)
    assert dataset.modality == "images"
    assert dataset.records.inputs.shape == (4, 1, 2, 2)
    assert dataset.records.inputs.dtype == torch.float32
    assert dataset.records.inputs[0].unique().tolist() == [1.0]
    assert dataset.records.inputs[1].flatten().tolist() == [-1, -1, -1, 0]
    assert dataset.records.labels.tolist() == [0, 1, 0, 1]
    assert dataset.classes == ("7", "40")
    assert dataset.users is not None
    assert dataset.users.tolist() == [0, 0, 0, 1]
    assert dataset.user_names == ("f1", "f0")


def test_sent140(tmp_path: Path) -> None:
    write(tmp_path / "all_data.json", SENT140)
    dataset = load("leaf:.", tmp_path)
    assert dataset.modality == "text"
    assert dataset.records.inputs.shape == (6, 25)
    words = [" ".join(dataset.vocabulary[k] for k in row if k) for row in dataset.records.inputs]
    # "so good !" came twice, "@ann odd" with both labels.
    assert words == ["so good !", "bad", "fine", "fine day", "worse", ". . ."]
    assert dataset.classes == ("negative", "positive")
    assert dataset.records.labels.tolist() == [1, 0, 1, 1, 0, 0]
    assert dataset.users is not None
    assert dataset.users.tolist() == [0, 0, 1, 1, 1, 2]
    assert dataset.user_names == ("ann", "bob", "cy")


def test_train_and_test_of_one_user_are_put_together(tmp_path: Path) -> None:
    write(tmp_path / "train/b.json", {"f1": ([WHITE, BLACK], [0, 1])})
    write(tmp_path / "train/a.json", {"f0": ([BLACK], [1]), "none": ([], [])})
    write(tmp_path / "test/a.json", {"f1": ([WHITE], [0]), "f2": ([BLACK], [1])})
    dataset = load("leaf:.", tmp_path)
    assert dataset.user_names == ("f0", "f1", "f2")
    assert dataset.users is not None
    assert dataset.users.tolist() == [0, 1, 1, 1, 2]
    assert dataset.records.labels.tolist() == [1, 0, 1, 0, 1]
    write(tmp_path / "own.json", FEMNIST)
    assert len(load("leaf:.", tmp_path).records) == 4, "the folder's own files come before train and test"


def test_users_count_in_the_digest(tmp_path: Path) -> None:
    write(tmp_path / "a/x.json", FEMNIST)
    write(tmp_path / "b/x.json", {"f1": ([WHITE, BLACK], [7, 40]), "f0": ([WHITE, BLACK], [7, 40])})
    first, second = (load(f"leaf:{tmp_path / name}") for name in "ab")
    assert torch.equal(first.records.inputs, second.records.inputs)
    assert first.sha256 != second.sha256


def test_a_lone_surrogate_ends_as_text_that_can_be_written(tmp_path: Path) -> None:
    users: Users = {"\ud800": ([tweet("hm \udfff good"), tweet("b"), tweet("c"), tweet("d")], [0, 0, 1, 1])}
    (tmp_path / "x.json").write_text(json.dumps(content(users)), encoding="ascii")
    dataset = load("leaf:.", tmp_path)
    assert "".join((*dataset.vocabulary, *dataset.user_names)).encode("utf-8")
    assert dataset.user_names == ("?",)


def entry(x: object, y: object) -> dict[str, Any]:
    size = len(x) if isinstance(x, list) else 1
    return {"users": ["u"], "num_samples": [size], "user_data": {"u": {"x": x, "y": y}}}


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{", "expected a readable JSON file, got file=.*x.json"),
        ("[" * 100_000, "expected a readable JSON file, got file=.*x.json .*recursion"),
        ('{"users": NaN}', "expected a readable JSON file, got file=.*it holds NaN"),
        (b"\xff\xfe\xfa", "expected a readable JSON file, got file=.*x.json"),
        ("9" * 5000, "expected a readable JSON file, got file=.*digits"),
        ([1], "expected a JSON object with users, num_samples and user_data .*got file=.*x.json"),
        ({"users": []}, "expected a JSON object with users, num_samples and user_data"),
        (content(FEMNIST) | {"users": ["f1", 3]}, "expected users as distinct strings"),
        (content(FEMNIST) | {"users": ["f1", "f1"]}, "expected users as distinct strings"),
        (content(FEMNIST) | {"num_samples": [3]}, "each with a whole number in num_samples"),
        (content(FEMNIST) | {"num_samples": [3, True]}, "each with a whole number in num_samples"),
        (content(FEMNIST) | {"user_data": {"f1": {}}}, "an entry in user_data, got file=.*differ"),
        (
            content(FEMNIST) | {"num_samples": [2, 1]},
            "as many records as num_samples says, got 3 of user='f1'",
        ),
        (content({}), "expected at least one record, got folder=.* with none"),
        (entry([WHITE], [1, 2]), "lists x and y of equal length, got another entry of user='u'"),
        (entry("abc", [1]), "lists x and y of equal length"),
        (entry([WHITE, [1.0]], [0, 1]), r"square images as flat lists of numbers \(FEMNIST\), got another x"),
        (entry([[1.0] * 5], [0]), "square images as flat lists"),
        (entry([["1"] * 4], [0]), "square images as flat lists"),
        (entry([[True] * 4], [0]), "square images as flat lists"),
        (entry([[[1.0]]], [0]), "square images as flat lists"),
        (entry([[10**400] * 4], [0]), "square images as flat lists"),
        (entry(["a plain line"], [0]), "square images as flat lists"),
        (entry([[]], [0]), r"pixels in \[0, 1\], got others of user='u'"),
        (entry([[255.0] * 4], [0]), r"pixels in \[0, 1\], got others"),
        (entry([[1e999] * 4], [0]), r"it holds Infinity|pixels in \[0, 1\]"),
        (entry([tweet("a"), ["b"]], [0, 1]), "every x to be a list with the text at index 4, got another x"),
        (entry([WHITE], ["1"]), "whole numbers as labels y, got others of user='u'"),
        (entry([WHITE], [1.0]), "whole numbers as labels y"),
        (entry([WHITE], [True]), "whole numbers as labels y"),
        (entry([WHITE], [2**40]), "whole numbers as labels y"),
        (entry([WHITE, BLACK], [0, 1]), "at least two records of every class, .* with 1 of class 0"),
        (entry([WHITE, BLACK], [1, 1]), "labels 0..C-1 of at least two classes"),
    ],
)
def test_files_that_break_a_rule(tmp_path: Path, written: object, message: str) -> None:
    raw = (
        written
        if isinstance(written, bytes)
        else (written if isinstance(written, str) else json.dumps(written)).encode()
    )
    (tmp_path / "x.json").write_bytes(raw)
    with pytest.raises(DatasetError, match=message) as caught:
        load(f"leaf:{tmp_path}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("other", [{"v": ([tweet("a")], [1])}, {"v": ([[1.0] * 9], [1])}])
def test_files_of_two_kinds(tmp_path: Path, other: Users) -> None:
    write(tmp_path / "a.json", FEMNIST)
    write(tmp_path / "b.json", other)
    with pytest.raises(DatasetError, match=r"records of one kind and size in all files, got file=.*b.json"):
        load("leaf:.", tmp_path)


def limit_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaf_files, "MAX_BYTES", 20)


def limit_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_files, "MAX_VALUES", 15)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (limit_file, r"it has \d+ bytes, more than 20"),
        (limit_values, "expected at most 15 values in all, got"),
    ],
)
def test_sizes_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: Callable[[pytest.MonkeyPatch], None], message: str
) -> None:
    write(tmp_path / "x.json", FEMNIST)
    limit(monkeypatch)
    with pytest.raises(DatasetError, match=message):
        load("leaf:.", tmp_path)


def test_folders_without_files(tmp_path: Path) -> None:
    write(tmp_path / "train/x.json", FEMNIST)
    for source in (f"leaf:{tmp_path}", f"leaf:{tmp_path / 'none'}", f"leaf:{tmp_path / 'train/x.json'}"):
        with pytest.raises(
            DatasetError, match=r"expected \*.json files in the folder, or in its folders train"
        ):
            load(source)
