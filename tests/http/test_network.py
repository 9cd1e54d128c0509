from __future__ import annotations

from penstock._http.network import ConnectionFailed, Upload


def test_a_failure_is_worth_another_try_unless_said_otherwise() -> None:
    assert not ConnectionFailed("x").permanent
    assert ConnectionFailed("x", permanent=True).permanent


def test_an_upload_has_begun_once_any_byte_is_taken() -> None:
    upload = Upload(b"hello")
    assert not upload.begun
    upload.peek()
    assert not upload.begun
    upload.advance(1)
    assert upload.begun
    upload.advance(4)
    assert upload.begun
    assert not upload
