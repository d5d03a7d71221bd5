"""Rankings of the four protocols against loops over candidates."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recexp.problems.evaluation import Evaluation
from recexp.problems.next_item_data import NextItemData
from recexp.problems.protocols import protocols

USERS, ITEMS = 20, 300


@pytest.fixture(scope="module")
def data(make_events, windows) -> NextItemData:
    draw = np.random.default_rng(0)
    histories = [
        draw.choice(np.arange(1, 280), size=draw.integers(3, 12), replace=False).tolist() for _ in range(USERS)
    ]
    # One user comes back to an item: it is in the history, and still the one to find.
    histories[0][-1] = histories[0][0]
    return NextItemData(
        make_events(histories, num_items=ITEMS), make_feed=windows(5), eval_batch_size=7, max_len=5, sampled=101,
        eval_seed=1,
    )  # fmt: skip


def rank_by_hand(data: NextItemData, split: str, name: str, row: int, scores: np.ndarray) -> tuple[int, int, int]:
    user = int(data.split.users[row])
    own = data.events.item[data.events.offsets[user] : data.events.offsets[user + 1]].tolist()
    place = len(own) - (2 if split == "val" else 1)
    target = own[place]
    removed = set(own[:-2]) if name == "p3" else set(own[:place])
    legal = set(data.events.item.tolist()) if name == "p4" else set(range(1, ITEMS + 1))
    others = [i for i in legal if i not in removed and i != target]
    greater = sum(scores[i] > scores[target] for i in others)
    return greater, sum(scores[i] == scores[target] for i in others), len(others) + 1


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("name", ["p3", "p4"])
def test_full_rankings(data: NextItemData, split: str, name: str) -> None:
    data.place(torch.device("cpu"))
    scores = torch.randint(0, 40, (USERS, ITEMS + 1), generator=torch.Generator().manual_seed(1)).float()
    evaluation = Evaluation(protocols([name], [10]), data.rated)
    loader = data.val_dataloader() if split == "val" else data.test_dataloader()
    for batch in loader:
        evaluation.update(scores[batch.user - 1], batch)
    counts = evaluation.metrics[name].per_user()  # type: ignore[operator]
    for row in range(USERS):
        expected = rank_by_hand(data, split, name, row, scores[int(data.split.users[row]) - 1].numpy())
        assert (counts["greater"][row], counts["equal"][row], counts["candidates"][row]) == expected


def test_sampled_candidates_are_unseen_and_frozen(data: NextItemData) -> None:
    data.place(torch.device("cpu"))
    batch = data.eval_batch(np.arange(USERS), "test")
    assert batch.sampled.shape == (USERS, 101)
    for user, row in zip(batch.user.tolist(), batch.sampled.tolist(), strict=True):
        own = data.events.item[data.events.offsets[user] : data.events.offsets[user + 1]]
        assert not set(own.tolist()) & set(row)
    again = torch.cat([b.sampled for b in data.test_dataloader()])
    assert torch.equal(batch.sampled, again)
    scores = torch.rand(USERS, ITEMS + 1)
    evaluation = Evaluation(protocols(["p1", "p2"], [10]), data.rated)
    evaluation.update(scores, batch)
    for name, size in (("p1", 101), ("p2", 100)):
        counts = evaluation.metrics[name].per_user()  # type: ignore[operator]
        expected = (scores.gather(1, batch.sampled[:, :size]) >= scores.gather(1, batch.target[:, None])).sum(1)
        assert counts["greater"].tolist() == expected.tolist()
        assert set(counts["candidates"]) == {size + 1}


def test_metric_names_tell_the_protocol() -> None:
    names = {
        p.name: [p.metric_name(n) for n in p.spec.metric_names()] for p in protocols(["p1", "p2", "p3", "p4"], [10])
    }
    assert names["p4"] == ["hr_at_10", "ndcg_at_10", "mrr"]
    assert names["p1"] == ["hr_at_10_sampled101", "ndcg_ln_at_10_sampled101", "mrr_sampled101"]
    assert names["p2"] == ["hr_at_10_sampled100", "ndcg_at_10_sampled100", "mrr_at_10_sampled100"]
    assert names["p3"] == ["hr_at_10_unseen", "ndcg_at_10_unseen", "mrr_unseen", "auc_unseen"]
    assert len({n for group in names.values() for n in group}) == sum(map(len, names.values()))
