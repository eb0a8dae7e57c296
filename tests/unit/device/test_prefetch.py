"""Work that is begun ahead: order, bounds, and what happens to it when nobody wants it any more."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from googlenet_deploy.device.prefetch import cancel_future, in_order, result_of


@given(st.lists(st.one_of(st.none(), st.integers()), max_size=30), st.integers(1, 5))
def test_every_item_has_its_result_in_order_and_few_are_under_way(items: list[int | None], ahead: int) -> None:
    under_way = most = 0

    def begin(item: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        return item

    def finish(item: int) -> int:
        nonlocal under_way
        under_way -= 1
        return 2 * item

    found = list(in_order(items, begin, finish, ahead))
    assert found == [(item, 2 * item) for item in items if item is not None]
    assert most <= ahead


def test_a_pause_hands_out_what_is_under_way() -> None:
    begun: list[int] = []
    made = in_order([1, 2, None, 3], lambda item: begun.append(item) or item, lambda item: item, 5)
    assert next(made) == (1, 1)
    assert begun == [1, 2]  # not 3: the pause comes first
    assert list(made) == [(2, 2), (3, 3)]


def test_the_next_item_is_at_hand_before_the_oldest_result_is_waited_for() -> None:
    events: list[str] = []

    def items() -> object:
        for index in range(3):
            events.append(f"item {index}")
            yield index

    list(in_order(items(), lambda item: item, lambda item: events.append(f"done {item}"), 2))  # type: ignore[arg-type]
    assert events == ["item 0", "item 1", "item 2", "done 0", "done 1", "done 2"]


@pytest.mark.parametrize("failing", ["begin", "finish", "items"])
def test_what_is_under_way_is_cancelled_where_something_fails(failing: str) -> None:
    cancelled: list[int] = []

    def work(kind: str, item: int) -> int:
        if kind == failing and item == 2:
            raise ValueError(kind)
        return item

    def items() -> object:
        for index in range(5):
            yield work("items", index)

    with pytest.raises(ValueError, match=failing):
        list(
            in_order(
                items(),  # type: ignore[arg-type]
                lambda item: work("begin", item),
                lambda item: work("finish", item),
                2,
                cancelled.append,
            )
        )
    assert cancelled == {"begin": [1], "finish": [2, 3], "items": [0, 1]}[failing]


def test_a_consumer_that_stops_leaves_nothing_to_begin() -> None:
    gate, ran = threading.Event(), []
    with ThreadPoolExecutor(1) as pool:

        def work(item: int) -> int:
            ran.append(item)
            if item:
                gate.wait(5)
            return item

        made = in_order(range(10), lambda item: pool.submit(work, item), result_of, 4, cancel_future)
        assert next(made) == (0, 0)
        made.close()
        gate.set()
    assert ran in ([0], [0, 1])  # what had begun may end, the others never ran
