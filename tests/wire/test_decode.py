from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from penstock._wire.accumulate import Accumulator
from penstock._wire.decode import (
    MAX_CHOICES,
    MAX_OBJECTS,
    ChunkDecodeError,
    check_objects,
    decode_chunk,
    decode_completion,
    decode_models,
)
from penstock.types import (
    ChatCompletion,
    ChatCompletionChunk,
    ChoiceDelta,
    ChunkChoice,
    Model,
    ModelList,
    Payload,
)

from .work import calls_in

DECODERS: list[Callable[[bytes], Payload]] = [decode_chunk, decode_completion]


def text(value: Any) -> bytes:
    return json.dumps(value).encode()


def shown(data: bytes) -> str:
    """An id; pytest escapes backslashes anew whenever it collects, so there are none."""
    return ascii(data[:20])[2:-1].replace("\\", "/")


def conforms(response: Payload) -> None:
    """Every field has its declared type, and the whole can be written as JSON and pickled."""
    plain = msgspec.to_builtins(response)
    msgspec.convert(plain, type(response))
    msgspec.json.encode(response)
    repr(response)
    assert isinstance(response.to_dict(), dict)


# --- what keeps to the types ---------------------------------------------------------


def test_a_usual_chunk() -> None:
    data = text(
        {
            "id": "c1",
            "object": "chat.completion.chunk",
            "created": 1700000000,
            "model": "m",
            "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}],
            "vendor": {"x": 1},
        }
    )
    chunk = decode_chunk(data)
    assert chunk.raw is data
    assert chunk.choices == [ChunkChoice(delta=ChoiceDelta(content="Hi"))]
    assert chunk["vendor"] == {"x": 1}
    assert chunk.to_dict() == json.loads(data)


def test_a_usual_completion() -> None:
    data = text({"choices": [{"message": {"role": "assistant", "content": "Hi"}}]})
    completion = decode_completion(data)
    assert completion.raw is data
    assert completion.choices[0].message.content == "Hi"


# --- rule 10: what msgspec refuses ---------------------------------------------------


@pytest.mark.parametrize(
    "extra",
    [
        rb'"x":"\ud83d"',
        rb'"x":"\udc00\ud83d"',
        rb'"x":NaN',
        rb'"x":[-Infinity,1e999]',
        b'"x":' + b"1" * 5000,
        b'"x":-' + b"1" * 700 + b".5",
        b'"error":' + b"9" * 5000,
        b'"x":"\xff\xfe"',
        b'"id":"\xff"',
        rb'"id":"\ud83d"',
        b'"created":1e999',
        b'"created":' + b"9" * 400,
    ],
    ids=shown,
)
def test_it_breaks_no_chunk(extra: bytes) -> None:
    data = b'{"choices":[{"index":0,"delta":{"content":"Hi"}}],' + extra + b"}"
    chunk = decode_chunk(data)
    assert chunk.choices[0].delta.content == "Hi"
    assert chunk.raw is data
    conforms(chunk)
    conforms(decode_completion(data))


def test_lone_surrogates_become_replacement_characters_and_pairs_stay() -> None:
    chunk = decode_chunk(rb'{"choices":[{"delta":{"content":"a\ud83db\ud83d\ude00\ude00"}}]}')
    assert chunk.choices[0].delta.content == "a\ufffdb\U0001f600\ufffd"


def test_bytes_that_are_no_utf8_become_replacement_characters() -> None:
    chunk = decode_chunk(b'{"choices":[{"delta":{"content":"a\xffb\xe2\x82"}}]}')
    assert chunk.choices[0].delta.content == "a\ufffdb\ufffd"


def test_a_byte_order_mark_before_a_whole_body() -> None:
    assert decode_completion(b'\xef\xbb\xbf{"id":"x"}').to_dict() == {"id": "x"}


@pytest.mark.parametrize(
    "data",
    [
        b"", b" ", b"null", b'"text"', b"1", b"NaN", b"[DONE]", b'{"a":', b"{'a': 1}",
        b'{"a":1}}', b"\xff", b"<html>", b"[" * 100_000, b'{"choices":' * 50_000,
        b"0" * 5000, b'{"a":"\n"}',
    ],
    ids=shown,
)  # fmt: skip
@pytest.mark.parametrize("decode", [*DECODERS, decode_models])
def test_what_is_no_object_is_one_kind_of_error(
    data: bytes, decode: Callable[[bytes], Payload]
) -> None:
    with pytest.raises(ChunkDecodeError) as caught:
        decode(data)
    message = str(caught.value)
    assert len(message) < 500
    assert message.isprintable()


@pytest.mark.parametrize("depth", [100, 300, 500, 700, 900, 980, 1100, 3000, 20_000, 500_000])
@pytest.mark.parametrize("extra", ["", ',"nan":NaN'])
def test_any_depth_decodes_or_is_that_error(depth: int, extra: str) -> None:
    deep = "[" * depth + "]" * depth
    for payload in (
        f'{{"x":{deep}{extra}}}',
        f'{{"error":{deep}{extra}}}',
        f'{{"choices":[{{"delta":{{"content":{deep},"annotations":{deep}}}}}]{extra}}}',
        f'{{"data":[{{"id":{deep}{extra}}}]}}',
    ):
        for decode in (*DECODERS, decode_models):
            # How deep it may be depends on the version of Python.
            try:
                decoded = decode(payload.encode())
            except ChunkDecodeError:
                continue
            try:
                decoded.to_dict()
            except ValueError as error:
                assert "nested too deeply" in str(error)  # noqa: PT017 - or none


def test_a_list_is_no_chunk() -> None:
    with pytest.raises(ChunkDecodeError, match="not a JSON object: \\[\\]"):
        decode_chunk(b"[]")


def test_what_does_not_keep_to_the_types_is_read_tolerantly() -> None:
    chunk = decode_chunk(b'{"id":7,"choices":[{"index":null,"delta":{"content":["a"]}}]}')
    assert (chunk.id, chunk.choices[0].index, chunk.choices[0].delta.content) == ("7", 0, "a")
    completion = decode_completion(b'{"id":7,"choices":[{"index":-1,"message":null}]}')
    assert (completion.id, completion.choices[0].index) == ("7", 0)
    assert completion.choices[0].message.role == "assistant"
    conforms(chunk)
    conforms(completion)


# --- models --------------------------------------------------------------------------


def test_models_keep_their_own_payload() -> None:
    listed = [{"id": "a", "owned_by": "x", "created": 1, "extra": [1]}, {"id": "b"}]
    data = text({"object": "list", "data": listed, "has_more": False})
    models = decode_models(data)
    assert [(m.id, m.owned_by, m.created) for m in models] == [("a", "x", 1), ("b", None, None)]
    assert [m.to_dict() for m in models] == listed
    assert models[0]["extra"] == [1]
    assert (models.raw, models.object, models["has_more"]) == (data, "list", False)


@pytest.mark.parametrize("listed", [None, [], {}, "x"])
def test_no_models(listed: Any) -> None:
    assert len(decode_models(text({"data": listed}))) == 0


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "with a byte order mark"])
def test_a_plain_list_and_bare_names(mark: bytes) -> None:
    listed = b'[{"id":"a"},"b",null,{"created":1.5},{"id":5,"created":null}]'
    models = decode_models(mark + listed)
    assert models.to_dict() == {"object": "list", "data": json.loads(listed)}
    assert [model.id for model in models] == ["a", "b", "", "5"]
    assert models[1].to_dict() == {"id": "b"}
    assert models.object == "list"
    assert len(models["data"]) == 5
    conforms(models)


def test_models_with_what_msgspec_refuses() -> None:
    listed = b'{"object":"\\ud83d","data":[{"id":"\\ud83d","x":NaN,"y":' + b"1" * 5000 + b"}]}"
    models = decode_models(listed)
    assert (models.object, models[0].id) == ("\ufffd", "\ufffd")
    assert models[0].to_dict()["y"] == math.inf
    conforms(models)


@pytest.mark.parametrize("data", [b"{}", b'{"error":"no"}', b'"x"', b"null"])
def test_what_is_no_list_of_models(data: bytes) -> None:
    with pytest.raises(ChunkDecodeError, match="not a list of models"):
        decode_models(data)


# --- properties ----------------------------------------------------------------------

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, -(2**70), 10**400])
    | st.floats()
    | st.text()
    | st.sampled_from(["\ud800", "a\udfff", "0", "stop"])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def objects(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects with some of these members, each at times anything; at times no object."""
    return anything | st.fixed_dictionaries({}, optional=members) | st.fixed_dictionaries(members)


def lists(item: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return anything | st.lists(item, max_size=3)


function = objects(name=anything, arguments=anything)
call = objects(index=anything, id=anything, type=anything, function=function)
part = objects(type=st.sampled_from(["text", "thinking", "refusal"]), text=anything)
token = objects(token=anything, logprob=anything, bytes=lists(anything), top_logprobs=anything)
message = objects(
    role=anything,
    content=lists(part),
    refusal=anything,
    reasoning=anything,
    reasoning_content=anything,
    tool_calls=lists(call),
    annotations=anything,
)
usage = objects(prompt_tokens=anything, prompt_tokens_details=objects(cached_tokens=anything))
choice = objects(
    index=anything,
    delta=message,
    message=message,
    finish_reason=anything,
    logprobs=objects(content=lists(token), refusal=lists(token)),
    usage=usage,
)
payloads = st.fixed_dictionaries(
    {},
    optional={
        "id": anything,
        "object": anything,
        "created": anything,
        "model": anything,
        "choices": lists(choice),
        "usage": usage,
        "x_groq": objects(id=anything, usage=usage, error=anything),
        "service_tier": anything,
        "error": anything,
        "penstock.raw": anything,
        "data": lists(objects(id=anything, created=anything)),
    },
)


def dumped(payload: Any) -> bytes:
    return json.dumps(payload).encode()


@given(payloads)
def test_any_object_is_a_chunk_and_a_completion(payload: dict[str, Any]) -> None:
    data = dumped(payload)
    chunk = decode_chunk(data)
    conforms(chunk)
    completion = decode_completion(data)
    conforms(completion)
    accumulator = Accumulator()
    accumulator.extend([chunk, chunk])
    conforms(accumulator.completion())


@given(payloads)
def test_any_object_with_data_is_a_list_of_models(payload: dict[str, Any]) -> None:
    if "data" not in payload:
        return
    models = decode_models(dumped(payload))
    conforms(models)
    for model in models:
        conforms(model)


@given(st.binary() | anything.map(dumped))
def test_any_bytes_decode_or_raise_one_class(data: bytes) -> None:
    for decode in (*DECODERS, decode_models):
        try:
            response = decode(data)
        except ChunkDecodeError:
            continue
        conforms(response)


@given(payloads)
def test_the_tolerant_way_agrees_with_the_fast_one(payload: dict[str, Any]) -> None:
    data = dumped(payload)
    # Numbers of more than 63 bits are none to the tolerant way.
    assume(not re.search(rb"[0-9]{19}", data))
    assume(b'"penstock.' not in data)
    for kind, decode in ((ChatCompletionChunk, decode_chunk), (ChatCompletion, decode_completion)):
        try:
            fast = msgspec.json.decode(data, type=kind)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
        # A NaN in an unknown member has the same chunk decoded tolerantly.
        slow = decode(data[:-1] + (b',"x":NaN}' if len(data) > 2 else b'"x":NaN}'))
        assert isinstance(slow.extra, dict)
        assert slow.extra.keys() == {"x"}
        slow.extra, fast.raw = msgspec.UNSET, slow.raw
        assert msgspec.to_builtins(slow) == msgspec.to_builtins(fast)


models_of_servers: st.SearchStrategy[list[Any]] = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.text(max_size=5) | st.sampled_from(["", None, 5]),
            "object": st.sampled_from(["model", "", None, 1]),
            "created": st.integers(0, 2**33) | st.floats(0, 2e9) | st.sampled_from([None, "", "1"]),
            "owned_by": st.sampled_from(["me", "", None, True]),
            "extra": scalars,
        },
    )
    | st.sampled_from(["a", "", None, 5, [], {}]),
    max_size=4,
)


@given(models_of_servers, st.sampled_from(["list", "", None, 3]))
def test_models_are_the_same_whichever_way_they_are_read(listed: list[Any], kind: Any) -> None:
    data = dumped({"data": listed, "object": kind})
    models = decode_models(data)
    # A NaN in a member that nobody reads makes all of it be read tolerantly.
    slow = decode_models(data[:-1] + b',"x":NaN}')
    assert [model.to_dict() for model in models] == [model.to_dict() for model in slow]
    for one in (models, slow):
        for model in one:
            model.raw = None
    assert (models.data, models.object) == (slow.data, slow.object)


def test_models_and_lists_are_of_their_classes() -> None:
    models = decode_models(b'{"data":[{"id":"a"}]}')
    assert isinstance(models, ModelList)
    assert isinstance(models[0], Model)


# --- what a response may cost, as counted work ---


def refused(decode: Callable[[bytes], object], data: bytes) -> Callable[[], None]:
    def work() -> None:
        with pytest.raises(ChunkDecodeError):
            decode(data)

    return work


MIB = 1024 * 1024


@pytest.mark.parametrize(
    "hostile",
    [
        b'{"x":NaN,"choices":[%b{}]}' % (b"{}," * (MIB // 3)),
        b'{"choices":[%b{}]}' % (b"{}," * (MIB // 3)),
        b'{"x":NaN,"choices":[%b{}]}' % (b'{"a":1},' * (MIB // 8)),
        b'{"choices":[%b{}],"x":"\\ud800"}' % (b"{}," * 80_000),
        b'{"choices":[{"delta":{"tool_calls":[%b{}]}}]}' % (b"{}," * (MIB // 3)),
        b'{"x":[%b[]]}' % (b"[]," * (MIB // 3)),
    ],
)
def test_too_many_parts_are_refused_without_work_for_each(hostile: bytes) -> None:
    def chunk(data: bytes) -> object:
        check_objects(data)
        return decode_chunk(data)

    for decode in (chunk, decode_completion):
        assert calls_in(refused(decode, hostile)) < 200


def test_the_number_of_choices_is_bounded_in_a_whole_body() -> None:
    def body(choices: int) -> bytes:
        return b'{"choices":[%b]}' % b",".join([b'{"index":0}'] * choices)

    assert len(decode_completion(body(MAX_CHOICES)).choices) == MAX_CHOICES
    for odd in (b"", b',"x":NaN', b',"created":"?"'):
        with pytest.raises(ChunkDecodeError, match="more than 4096 choices"):
            decode_completion(body(MAX_CHOICES + 1)[:-1] + odd + b"}")


def test_an_honest_body_may_be_dense() -> None:
    token = b'{"token":"a","logprob":-1.5,"bytes":[97],"top_logprobs":[]}'
    tokens = b",".join([token] * 20_000)
    body = b'{"choices":[{"logprobs":{"content":[%b]}}]}' % tokens
    [choice] = decode_completion(body).choices
    assert choice.logprobs is not None
    assert len(choice.logprobs.content or ()) == 20_000
    check_objects(body)
    check_objects(b'{"x":[%b[]]}' % (b"[]," * (MAX_OBJECTS - 10)))


@pytest.mark.parametrize(
    "odd", [b'"x":NaN', b'"x":"\\ud83d"', b'"vendor":1', b'"created":"?"', b'"x":%b' % (b"9" * 700)]
)
def test_the_tolerant_ways_cost_a_small_multiple_of_the_members(odd: bytes) -> None:
    choice = b'{"index":0,"delta":{"content":"a","role":null},"finish_reason":null}'

    def work(choices: int) -> int:
        data = b'{%b,"choices":[%b]}' % (odd, b",".join([choice] * choices))
        return calls_in(lambda: decode_chunk(data))

    # Two objects and five members in each choice, looked at in a few calls each.
    assert (work(1010) - work(10)) / 1000 <= 45
