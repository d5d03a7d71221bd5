"""A user's outfits: what is understood, and what is wrong with them, all at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recexp.datasets.outfits import Category
from recexp.errors import DataError
from recexp.problems.outfit_requests import Request, Requests
from tests.support.outfit_cases import random_outfits

CATEGORIES = tuple(Category(str(100 + n), name) for n, name in enumerate(["Skirts", "Shoes", "Ankle Boots"]))
DATA = replace(random_outfits(categories=3, longest=3), categories=CATEGORIES)
PICTURE = [0.5, 1, -2.0, 0, 3]


def read(*sent: Any, missing: str = "error") -> list[Request]:
    return Requests(DATA, missing=missing).read(sent)


def own(category: object = "Skirts", **changes: Any) -> dict[str, Any]:
    return {"category": category, "image": PICTURE, "words": [3, 1], **changes}


def refused(*sent: Any, missing: str = "error") -> str:
    with pytest.raises(DataError) as error:
        read(*sent, missing=missing)
    return str(error.value)


def test_items_of_the_dataset_and_of_ones_own() -> None:
    (one,) = read({"id": 7, "items": [{"item": "i0"}, own("ankle boots")], "complete": ["Shoes", 101]})
    assert one.id == "7"
    assert [(item.category, item.number) for item in one.items] == [(0, 0), (2, None)]
    assert one.items[1].image == PICTURE
    assert one.items[1].words == [1, 3]
    assert one.complete == (1,)


def test_all_other_categories_can_complete() -> None:
    (one,) = read({"items": [own(), own(101)], "complete": True})
    assert one.id == "1"
    assert one.complete == (2,)
    assert read({"items": [own(), own(101)], "complete": False})[0].complete == ()


def test_a_vector_may_be_missing_where_that_was_said() -> None:
    (one,) = read({"items": [own(), {"category": 101}]}, missing="zero")
    assert one.items[1].image == [0.0] * 5
    assert one.items[1].words == []
    assert "has no image, a vector of 5 numbers" in refused({"items": [own(), {"category": 101}]})


def test_what_a_model_does_not_read_need_not_be_there() -> None:
    data = replace(DATA, image=None, words=None, word_offsets=None)
    (one,) = Requests(data, missing="error").read([{"items": [{"category": 100}, own(101)]}])
    assert [item.image for item in one.items] == [None, None]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"items": [own()]}, "outfit 1: has 1 item: an outfit has two or more"),
        ({"items": [own(), own("Shoe")]}, "unknown category 'Shoe'. Did you mean Shoes?"),
        ({"items": [own(), own(None)]}, "no category is given"),
        ({"items": [own(), own(100)]}, "two items of category 100 (Skirts)"),
        ({"items": [own(), {"item": "i9999"}]}, "item 'i9999' is not in the dataset random"),
        ({"items": [own("Shoes"), {"item": "i0", "image": []}]}, "image is known and cannot be given"),
        ({"items": [own(), own("Shoes", image=[1, 2])]}, "image has 2 numbers; the model takes a vector of 5"),
        ({"items": [own(), own("Shoes", image="a.jpg")]}, "image has 'a.jpg'"),
        ({"items": [own(), own("Shoes", image=[1, 2, 3, 4, float("nan")])]}, "image holds nan"),
        ({"items": [own(), own("Shoes", image=[1, 2, 3, 4, 1e9])]}, "image holds 1000000000.0"),
        ({"items": [own(), own("Shoes", image=[1, 2, 3, 4, True])]}, "image holds True"),
        ({"items": [own(), own("Shoes", words=[13])]}, "words holds 13; expected whole numbers from 0 to 12"),
        ({"items": [own(), own("Shoes", words="silk")]}, "words is 'silk'"),
        ({"items": "all"}, "items is 'all'; expected a list"),
        ({}, "items is None; expected a list"),
        (5, "outfit 1: is 5; expected an object"),
        ({"items": [own(), 5]}, "outfit 1, item 2: is 5"),
        ({"items": [own(), own("Shoes")], "complet": True}, "unknown key 'complet'. Did you mean complete?"),
        ({"items": [own(), own("Shoes")], "complete": "Shoes"}, "is to be completed by 101 (Shoes), of which it has"),
        ({"items": [own(), own("Shoes")], "complete": "Boots"}, "complete: unknown category 'Boots'"),
    ],
)
def test_each_mistake_has_its_name(sent: Any, said: str) -> None:
    assert said in refused(sent)


def test_all_mistakes_are_said_at_once_but_no_more_than_twenty() -> None:
    text = refused(5, {"items": [own(), own("Hat"), own("Shoes", image=[])]}, {"items": []})
    assert len(text.splitlines()) == 4
    assert refused(*[5] * 30).splitlines()[-1] == "... and 10 more"


def test_the_categories_are_those_of_the_dataset() -> None:
    (one,) = read({"items": [{"item": f"i{DATA.num_items - 1}"}, own()]})
    assert one.items[0].category == int(DATA.category_of(np.array([DATA.num_items - 1]))[0]) == 2
