"""Order: what starts several processes comes first, in one worker, while the others do the rest."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("dist") is None)
