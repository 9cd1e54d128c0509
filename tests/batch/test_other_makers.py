"""Files of OpenAI's Batch API and of `vllm run-batch`, read by us and by them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from openai.types.chat import ChatCompletion, CompletionCreateParams
from pydantic import BaseModel, TypeAdapter

from penstock import batch
from penstock.batch.journal import read_journal
from penstock.batch.rows import Params, row_of_line
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import error_reply
from tests.support.chat import client_on

from .support import OK, line, number_of, write_rows

__all__ = ["anyio_backend"]

# From OpenAI's guide to its Batch API, as documented.
OPENAI_INPUT = (
    b'{"custom_id": "request-1", "method": "POST", "url": "/v1/chat/completions", "body": '
    b'{"model": "gpt-3.5-turbo-0125", "messages": [{"role": "system", "content": "You are a '
    b'helpful assistant."},{"role": "user", "content": "Hello world!"}],"max_tokens": 1000}}\n'
)
OPENAI_OUTPUT = (
    b'{"id": "batch_req_123", "custom_id": "request-1", "response": {"status_code": 200, '
    b'"request_id": "req_123", "body": {"id": "chatcmpl-123", "object": "chat.completion", '
    b'"created": 1711652795, "model": "gpt-3.5-turbo-0125", "choices": [{"index": 0, "message": '
    b'{"role": "assistant", "content": "Hello."}, "logprobs": null, "finish_reason": "stop"}], '
    b'"usage": {"prompt_tokens": 22, "completion_tokens": 2, "total_tokens": 24}}}, '
    b'"error": null}\n'
)
OPENAI_EXPIRED = (
    b'{"id": "batch_req_123", "custom_id": "request-1", "response": null, "error": {"code": '
    b'"batch_expired", "message": "This request could not be executed before the completion '
    b'window expired."}}\n'
)
VLLM_OUTPUT = (
    b'{"id":"vllm-383d1c59835645aeb2e07d004d62a826","custom_id":"request-1","response":{'
    b'"status_code":200,"request_id":"vllm-batch-1","body":{"id":"cmpl-61c020e54b964d5a98fa7527'
    b'bfcdd378","object":"chat.completion","created":1715633336,"model":"m","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Hello!"},"logprobs":null,"finish_reason":"stop",'
    b'"stop_reason":null}],"usage":{"prompt_tokens":25,"total_tokens":56,"completion_tokens":31}}}'
    b',"error":null}\n'
)
VLLM_FAILED = (
    b'{"id":"vllm-2","custom_id":"request-1","response":{"status_code":400,"request_id":'
    b'"vllm-batch-2","body":null},"error":{"object":"error","message":"no","code":400}}\n'
)
VLLM_REFUSED = (  # what vLLM 0.33 writes for an endpoint that it does not have
    b'{"id":"vllm-3","custom_id":"request-1","response":{"status_code":400,"request_id":'
    b'"vllm-batch-3","body":null},"error":"URL /v1/x is not a supported endpoint."}\n'
)


class Response(BaseModel):
    status_code: int = 200
    request_id: str
    body: Any = None


class OutputLine(BaseModel, extra="forbid"):
    """What both document: vLLM reads its lines with a model of this form."""

    id: str
    custom_id: str
    response: Response | None
    error: Any


class InputLine(BaseModel, extra="forbid"):
    custom_id: str
    method: Literal["POST"]
    url: str
    body: dict[str, Any]


PARAMS: TypeAdapter[Any] = TypeAdapter(CompletionCreateParams)


@pytest.mark.parametrize(
    ("line", "answers"),
    [
        (OPENAI_OUTPUT, True),
        (OPENAI_EXPIRED, False),
        (VLLM_OUTPUT, True),
        (VLLM_FAILED, False),
        (VLLM_REFUSED, False),
    ],
)
def test_their_lines_count_for_our_rows(tmp_path: Path, line: bytes, answers: bool) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(line)
    row = row_of_line(OPENAI_INPUT, Params())
    with path.open("rb") as file:
        journal = anyio.run(read_journal, file, "out.jsonl")
    assert journal.answers_row(row.custom_id, row.id) is answers
    assert journal.cut_at is None


@pytest.mark.anyio
async def test_our_lines_are_theirs(tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, range(4))
    with source.open("ab") as file:
        file.write(OPENAI_INPUT)
    for each in source.read_bytes().splitlines():
        PARAMS.validate_python(InputLine.model_validate_json(each).body)

    def answer(request: Any) -> Any:
        if b"Hello world" not in request.body and number_of(request) == 2:
            return error_reply(400, "too long")
        return OK

    async with client_on(answer) as client:
        await batch.run_files(client, source, output)
    answered = [OutputLine.model_validate_json(each) for each in output.read_bytes().splitlines()]
    assert {each.custom_id for each in answered} == {"row 0", "row 1", "row 3", "request-1"}
    assert all(each.response is not None and each.error is None for each in answered)
    for found in answered:
        assert found.response is not None
        ChatCompletion.model_validate(found.response.body, strict=True)
    [failed] = (tmp_path / "out.errors.jsonl").read_bytes().splitlines()
    parsed = OutputLine.model_validate_json(failed)
    # Readers of OpenAI's form look at the status, those of vLLM's at the error.
    assert parsed.response is not None
    assert parsed.response.status_code == 400
    assert parsed.error["message"].startswith("400: too long")
    assert json.loads(failed)["response"]["body"]["error"]["message"] == "too long"


def test_a_row_of_ours_is_an_input_of_theirs() -> None:
    assert InputLine.model_validate_json(line(1)).custom_id == "row 1"
