"""Generated impressions: the format, their shapes, and labels that can be learned only where that was asked for."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from recexp.datasets import criteo_generator
from recexp.datasets.criteo_generator import CARDINALITIES, Block, Plan, Source, write
from recexp.datasets.criteo_lines import format_lines

LINE = re.compile(rb"[01]\t(?:-?(?:0|[1-9]\d*))?(?:\t(?:0|[1-9]\d*|-[1-9])?){12}(?:\t(?:[0-9a-f]{8})?){26}")


def rows_of(plan: Plan) -> Block:
    """All of a plan's blocks as one."""
    source = Source(plan)
    blocks = [source.block(number) for number in range(source.blocks)]
    return Block(**{
        name: np.concatenate([getattr(block, name) for block in blocks], axis=-1) for name in Block.__dataclass_fields__
    })  # fmt: skip


def text_of(tmp_path: Path, **options: float) -> bytes:
    write(tmp_path / "train.txt", **{"rows": 300, "max_cardinality": 1000, "seed": 1, **options})
    return (tmp_path / "train.txt").read_bytes()


def test_lines_are_the_rows_in_the_format_of_the_original(tmp_path: Path) -> None:
    content = text_of(tmp_path, rows=17_000, max_cardinality=20_000_000)
    assert content.endswith(b"\n")
    assert b"\0" not in content
    lines = content[:-1].split(b"\n")
    assert len(lines) == 17_000
    assert all(LINE.fullmatch(line) for line in lines)
    rows = rows_of(Plan(17_000, 20_000_000))
    for n in range(0, len(lines), 97):
        fields = lines[n].split(b"\t")
        assert int(fields[0]) == rows.label[n]
        for c in range(13):
            assert fields[1 + c] == (b"" if rows.no_dense[c, n] else str(rows.dense[c, n]).encode())
        for c in range(26):
            assert fields[14 + c] == (b"" if rows.no_id[c, n] else f"{rows.ids[c, n]:08x}".encode())


def test_formatting_knows_every_length_of_a_number() -> None:
    values = np.array([0, 9, 10, 9_999, 10_000, 10_001, 100_000, 1_234_567, 9_999_999, -1, -2, -9], dtype=np.int64)
    ids = np.array([0, 1, 0xFFFF, 0x10000, 0xFFFFFFFF, 0xABCDEF, *range(6)], dtype=np.uint32)
    n = len(values)
    dense, hexes = np.tile(values, (13, 1)), np.tile(ids, (26, 1))
    label = np.arange(n) % 3 == 0
    text = format_lines(label, dense, np.zeros((13, n), bool), hexes, np.zeros((26, n), bool)).tobytes()
    expected = "".join(
        "\t".join([str(int(label[n])), *[str(values[n])] * 13, *[f"{ids[n]:08x}"] * 26]) + "\n" for n in range(n)
    )
    assert text == expected.encode()
    nothing = format_lines(label[:1], dense[:, :1], np.ones((13, 1), bool), hexes[:, :1], np.ones((26, 1), bool))
    assert nothing.tobytes() == b"1" + b"\t" * 39 + b"\n"


@pytest.mark.parametrize("value", [-10, 10_000_000])
def test_a_count_without_room_is_refused(value: int) -> None:
    dense = np.full((13, 1), value, dtype=np.int64)
    none = np.zeros((26, 1), bool)
    with pytest.raises(ValueError, match=r"counts are -9\.\.9,999,999"):
        format_lines(none[0], dense, none[:13], np.zeros((26, 1), np.uint32), none)


def test_same_plan_same_bytes_and_a_longer_file_begins_with_the_shorter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = text_of(tmp_path, rows=33_000)
    assert text_of(tmp_path, rows=33_000) == first
    assert first.startswith(text_of(tmp_path, rows=20_001))
    in_turn = criteo_generator.in_order
    monkeypatch.setattr(criteo_generator, "in_order", lambda work, tasks: in_turn(work, tasks, workers=3))
    assert text_of(tmp_path, rows=33_000) == first
    for other in ({"seed": 2}, {"max_cardinality": 999}, {"structure": 0.5}):
        assert text_of(tmp_path, **other) != first[: len(text_of(tmp_path, **other))]


def test_columns_have_the_gaps_and_shapes_of_the_original() -> None:
    rows = rows_of(Plan(60_000, 20_000_000, seed=3))
    # Of the first 10,000 published lines, and with room for a rounded constant.
    no_dense = [0.4481, 0, 0.2037, 0.1978, 0.0494, 0.2511, 0.0492, 0.001, 0.0492, 0.4481, 0.0492, 0.7735, 0.1978]
    no_id = np.zeros(26)
    no_id[[2, 3, 11, 15, 20, 23]] = 0.0357
    no_id[[18, 19, 24, 25]] = 0.4496
    no_id[[5, 21]] = 0.1332, 0.8182
    assert np.abs(rows.no_dense.mean(axis=1) - no_dense).max() < 0.01
    assert np.abs(rows.no_id.mean(axis=1) - no_id).max() < 0.01
    assert np.array_equal(rows.no_dense[0], rows.no_dense[9])  # missing together, as in the original
    assert np.array_equal(rows.no_id[18], rows.no_id[25])
    negative = (rows.dense < 0).mean(axis=1)
    assert 0.08 < negative[1] < 0.12
    assert not negative[np.arange(13) != 1].any()
    assert rows.dense[1].min() == -2
    for c in (2, 4, 5, 8):  # heavy tails
        present = rows.dense[c][~rows.no_dense[c]]
        assert present.mean() > 1.5 * np.median(present)


def test_ids_are_as_many_as_published_or_allowed_and_some_are_rare() -> None:
    for cap in (2, 50, 20_000_000):
        rows = rows_of(Plan(60_000, cap))
        counts = [np.unique(rows.ids[c][~rows.no_id[c]], return_counts=True)[1] for c in range(26)]
        missing = rows.no_id.any(axis=1)
        allowed = np.minimum(CARDINALITIES, cap) - missing
        assert (np.array([len(count) for count in counts]) <= allowed).all()
        small = allowed <= 20
        assert (np.array([len(count) for count in counts])[small] == allowed[small]).all()
    assert np.mean(counts[2] == 1) > 0.5
    assert 0.03 < counts[2].max() / counts[2].sum() < 0.07  # published: 0.049
    assert 0.8 < counts[8].max() / counts[8].sum() < 0.95  # published: 0.887


@pytest.mark.parametrize(("cap", "seed"), [(2, 1), (1000, 2), (20_000_000, 3)])
def test_true_probability_is_calibrated_and_ranks_as_well_as_promised(cap: int, seed: int) -> None:
    rows = rows_of(Plan(80_000, cap, seed=seed))
    assert abs(rows.label.mean() - 0.256) < 0.01
    edges = np.quantile(rows.probability, np.linspace(0, 1, 11))
    group = np.clip(np.searchsorted(edges, rows.probability, side="right") - 1, 0, 9)
    for g in range(10):
        expected, own = rows.probability[group == g], rows.label[group == g]
        error = np.sqrt((expected * (1 - expected)).sum()) / len(own)
        assert abs(own.mean() - expected.mean()) < 4.5 * error
    assert 0.8 < roc_auc_score(rows.label, rows.probability) < 0.86


def one_hot(rows: Block, pairs: tuple[tuple[int, int], ...] = ()) -> sparse.csr_matrix:
    """Every id, and every pair of ids where asked for, hashed into 2**18 columns; counts as logarithms."""
    ids = np.where(rows.no_id, 0, rows.ids.astype(np.uint64) + np.uint64(1))
    columns = [ids[c] * np.uint64(31) + np.uint64(c) for c in range(26)]
    columns += [
        ids[left - 1] * np.uint64(1_000_003) + ids[right - 1] * np.uint64(8191) + np.uint64(100 * left + right)
        for left, right in pairs
    ]
    places = (np.stack(columns, axis=1) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(46)
    starts = np.arange(0, places.size + 1, places.shape[1])
    hot = sparse.csr_matrix(
        (np.ones(places.size, np.float32), places.ravel().astype(np.int64), starts), (len(rows), 1 << 18)
    )
    return sparse.hstack([hot, sparse.csr_matrix(np.log1p(np.maximum(rows.dense, 0)).T / 3)]).tocsr()


def held_out_auc(rows: Block, pairs: tuple[tuple[int, int], ...] = ()) -> float:
    features, n = one_hot(rows, pairs), len(rows) * 3 // 4
    model = LogisticRegression(C=0.1, max_iter=60).fit(features[:n], rows.label[:n])
    return float(roc_auc_score(rows.label[n:], model.decision_function(features[n:])))


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_labels_can_be_learned_and_pairs_of_ids_say_more() -> None:
    rows = rows_of(Plan(32_768, 1000))
    alone, together = held_out_auc(rows), held_out_auc(rows, criteo_generator._PAIRS)
    assert alone > 0.68
    assert together > alone + 0.03
    assert roc_auc_score(rows.label, rows.probability) > together


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_without_structure_there_is_nothing_to_learn() -> None:
    rows = rows_of(Plan(32_768, 1000, structure=0.0))
    assert np.ptp(rows.probability) == 0
    assert abs(rows.label.mean() - 0.256) < 0.01
    assert abs(held_out_auc(rows) - 0.5) < 0.025  # 5,500 x 2,700 pairs: three standard errors
