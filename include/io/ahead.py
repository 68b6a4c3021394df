"""Work in another thread, so that it is done while this one waits for PostgreSQL or for files."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

Item = TypeVar("Item")


def one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yield items, while another thread makes the next one.

    At most two items are in memory: the one in use and the next one. An error of an item is raised in its turn.
    """
    coming, end = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        item = thread.submit(next, coming, end)
        while (made := item.result()) is not end:
            item = thread.submit(next, coming, end)
            yield cast(Item, made)
