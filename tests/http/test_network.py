from __future__ import annotations

from penstock._http.network import ConnectionFailed, Upload


def test_a_failure_is_worth_another_try_unless_said_otherwise() -> None:
    assert not ConnectionFailed("x").permanent
    assert ConnectionFailed("x", permanent=True).permanent


def test_an_upload_has_begun_once_any_byte_is_taken() -> None:
    upload = Upload(b"hello")
    begun = [upload.begun]
    upload.peek()
    begun.append(upload.begun)
    for count in (1, 4):
        upload.advance(count)
        begun.append(upload.begun)
    assert begun == [False, False, True, True]
    assert not upload
