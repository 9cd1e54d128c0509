from __future__ import annotations

from penstock._wire.call_id import new_call_id


def test_ids_are_9_letters_and_digits_and_differ() -> None:
    ids = {new_call_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(id) == 9 and id.isascii() and id.isalnum() for id in ids)
