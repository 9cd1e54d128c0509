"""The types of a completion's keyword arguments, for type checkers.

Names and types are those of OpenAI's reference and of the servers that `_wire/parameters.py`
knows. At run time any other keyword goes into the body as well, and no value is checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, TypedDict

__all__ = ["ChatParams", "ParseParams", "Prompt", "RequestParams", "TextParams"]

Prompt: TypeAlias = str | Iterable[str] | Iterable[int] | Iterable[Iterable[int]]
"""What a text completion goes on from: text or token ids, one or several."""


class _ServerParams(TypedDict, total=False):
    """What widely used servers add: vLLM, SGLang, llama.cpp, OpenRouter, Mistral and others."""

    add_generation_prompt: bool | None
    allowed_token_ids: Iterable[int] | None
    bad_words: Iterable[str] | None
    cache_prompt: bool | None
    chat_template: str | None
    chat_template_kwargs: Mapping[str, Any] | None
    continue_final_message: bool | None
    debug: bool | None
    documents: Iterable[Any] | None
    dry_allowed_length: int | None
    dry_base: float | None
    dry_multiplier: float | None
    dry_penalty_last_n: int | None
    dynatemp_exponent: float | None
    dynatemp_range: float | None
    enable_thinking: bool | None
    grammar: str | None
    guided_choice: Iterable[str] | None
    guided_grammar: str | None
    guided_json: Any
    guided_regex: str | None
    ignore_eos: bool | None
    include_reasoning: bool | None
    include_stop_str_in_output: bool | None
    json_schema: Any
    keep_alive: Any
    length_penalty: float | None
    min_p: float | None
    min_tokens: int | None
    mirostat: int | None
    mirostat_eta: float | None
    mirostat_tau: float | None
    models: Iterable[str] | None
    n_probs: int | None
    num_ctx: int | None
    options: Mapping[str, Any] | None
    plugins: Iterable[Any] | None
    prefix: bool | None
    priority: int | None
    prompt_logprobs: int | None
    provider: Any
    random_seed: int | None
    reasoning: Any
    reasoning_format: str | None
    reasoning_split: bool | None
    repeat_last_n: int | None
    repeat_penalty: float | None
    repetition_penalty: float | None
    return_progress: bool | None
    return_token_ids: bool | None
    return_tokens_as_token_ids: bool | None
    route: str | None
    safe_prompt: bool | None
    samplers: str | Iterable[str] | None
    search_parameters: Mapping[str, Any] | None
    skip_special_tokens: bool | None
    spaces_between_special_tokens: bool | None
    stop_token_ids: Iterable[int] | None
    structured_outputs: Mapping[str, Any] | None
    thinking: Any
    thinking_budget: int | None
    timings_per_token: bool | None
    top_a: float | None
    top_k: int | None
    top_n_sigma: float | None
    transforms: Iterable[str] | None
    truncate_prompt_tokens: int | None
    typical_p: float | None
    use_beam_search: bool | None
    xtc_probability: float | None
    xtc_threshold: float | None


class ParseParams(_ServerParams, total=False):
    """`ChatParams` without `response_format`."""

    audio: Mapping[str, Any] | None
    extra_body: Mapping[str, Any] | None
    extra_query: Mapping[str, Any] | None
    frequency_penalty: float | None
    function_call: str | Mapping[str, Any] | None
    functions: Iterable[Any] | None
    lenient: bool
    logit_bias: Mapping[str, Any] | None
    logprobs: bool | None
    max_completion_tokens: int | None
    max_tokens: int | None
    metadata: Mapping[str, Any] | None
    modalities: Iterable[str] | None
    n: int | None
    parallel_tool_calls: bool | None
    prediction: Mapping[str, Any] | None
    presence_penalty: float | None
    prompt_cache_key: str | None
    prompt_cache_retention: str | None
    reasoning_effort: str | None
    safety_identifier: str | None
    seed: int | None
    service_tier: str | None
    session: Any
    stop: str | Iterable[str] | None
    store: bool | None
    stream_options: Mapping[str, Any] | None
    temperature: float | None
    tool_choice: str | Mapping[str, Any] | None
    tools: Iterable[Any] | None
    top_logprobs: int | None
    top_p: float | None
    user: str | None
    verbosity: str | None
    web_search_options: Mapping[str, Any] | None


class ChatParams(ParseParams, total=False):
    """The keyword arguments of a chat completion that type checkers know.

    For functions of your own that pass keyword arguments on:

        async def ask(question: str, **params: Unpack[penstock.ChatParams]) -> str: ...

    Another keyword is sent as well, but a type checker reports it, as it does a misspelt one.
    Give it in `extra_body`, or with a mapping: `stream(**request)`. `extra_body` is merged into
    the body, `extra_query` into the URL; `session` is for a `Spread`, `lenient`
    for a type as `response_format`. The rest are members of
    the body, and have the meaning and the units that the server gives them.
    """

    response_format: Any


class RequestParams(ChatParams, total=False):
    """The keyword arguments of `AsyncClient.complete`, chat or text."""

    model: str
    messages: Iterable[Any]
    prompt: Prompt


class TextParams(_ServerParams, total=False):
    """The keyword arguments of a text completion that type checkers know."""

    best_of: int | None
    echo: bool | None
    extra_body: Mapping[str, Any] | None
    extra_query: Mapping[str, Any] | None
    frequency_penalty: float | None
    logit_bias: Mapping[str, Any] | None
    logprobs: int | None
    max_tokens: int | None
    n: int | None
    presence_penalty: float | None
    response_format: Any
    seed: int | None
    session: Any
    stop: str | Iterable[str] | None
    stream_options: Mapping[str, Any] | None
    suffix: str | None
    temperature: float | None
    top_p: float | None
    user: str | None
