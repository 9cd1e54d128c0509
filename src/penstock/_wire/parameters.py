"""The keyword arguments of a completion: merged into the body, and checked for slips."""

from __future__ import annotations

import inspect
import operator
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeGuard

from .json_values import is_list

__all__ = ["body_members", "choices_asked"]

# OpenAI's reference, and what widely used servers add to it: vLLM, SGLang, llama.cpp, OpenRouter,
# Groq, Mistral, DeepSeek. Only used to recognise slips: other names are sent as well.
_NAMES = """
    add_generation_prompt allowed_token_ids audio bad_words best_of cache_prompt
    chat_template chat_template_kwargs continue_final_message debug documents
    dry_allowed_length dry_base dry_multiplier dry_penalty_last_n dynatemp_exponent
    dynatemp_range echo enable_thinking extra_body extra_headers extra_query
    frequency_penalty function_call functions grammar guided_choice guided_grammar
    guided_json guided_regex ignore_eos include_reasoning include_stop_str_in_output
    json_schema keep_alive length_penalty logit_bias logprobs max_completion_tokens
    max_retries max_tokens messages metadata min_p min_tokens mirostat mirostat_eta
    mirostat_tau modalities model models n_probs num_ctx options parallel_tool_calls plugins
    prediction prefix presence_penalty priority prompt prompt_cache_key
    prompt_cache_retention prompt_logprobs provider random_seed reasoning reasoning_effort
    reasoning_format reasoning_split repeat_last_n repeat_penalty repetition_penalty
    response_format return_progress return_token_ids return_tokens_as_token_ids route
    safe_prompt safety_identifier samplers search_parameters seed service_tier
    skip_special_tokens spaces_between_special_tokens stop stop_token_ids store stream
    stream_options structured_outputs suffix temperature thinking thinking_budget timeouts
    timings_per_token tool_choice tools top_a top_k top_logprobs top_n_sigma top_p
    transforms truncate_prompt_tokens typical_p use_beam_search user verbosity
    web_search_options xtc_probability xtc_threshold
"""
_KNOWN = frozenset(_NAMES.split())
_SHORTEST = 4  # letters of a name that can be misspelt; shorter ones are alike by chance
_LONGEST = 40  # letters; every known name is shorter


def body_members(params: Mapping[str, Any], *, stream: bool) -> dict[str, Any]:
    """Return the members of a completion's body for these keyword arguments.

    `extra_body` is merged into them and takes precedence; `stream` is added. TypeError for
    `timeout`, which is an argument of other libraries, and for an `extra_body` that is not a
    mapping; ValueError if that changes `stream`. A name that is one letter off a known one is
    sent, with a UserWarning.
    """
    if "timeout" in params:
        raise TypeError(
            "timeout is not an argument here: pass timeouts=penstock.Timeouts(total=...)"
        )
    members = {**params}
    extra: Any = members.pop("extra_body", None)
    for name in members:
        if name not in _KNOWN and (meant := _meant(name)) is not None:
            warnings.warn(
                f"{name} is not a known parameter: did you mean {meant}? It is sent as it is",
                UserWarning,
                stacklevel=_stacklevel(),
            )
    if extra is not None:
        if not _is_mapping(extra):
            raise TypeError(f"extra_body must be a mapping, not {type(extra).__name__}")
        if extra.get("stream", stream) is not stream:
            raise ValueError("extra_body cannot change stream: choose create() or stream() instead")
        members.update(extra)
    members["stream"] = stream
    return members


def choices_asked(params: Mapping[str, Any], prompt: Any = None) -> int:
    """Return how many choices a request asks for: `n` of them for each prompt."""
    extra: Any = params.get("extra_body")
    asked: Any = {**params, **extra}.get("n") if extra else params.get("n")
    n = 1 if asked is None else max(1, _whole(asked))
    # A list of integers is one prompt, as token ids.
    several = is_list(prompt) and bool(prompt) and not isinstance(prompt[0], int)
    return n * len(prompt) if several else n


def _whole(number: Any) -> int:
    """Return a whole number, which may be 2.0 or of another type; 1 for anything else."""
    try:
        return int(number) if isinstance(number, float) else operator.index(number)
    except (TypeError, ValueError, OverflowError):
        return 1


@lru_cache(maxsize=256)
def _meant(name: str) -> str | None:
    """Return the known name that this one is a slip of, if any."""
    if not _SHORTEST - 1 <= len(name) <= _LONGEST:
        return None
    return next((known for known in sorted(_KNOWN) if _is_slip(name, known)), None)


def _is_slip(name: str, known: str) -> bool:
    """Return whether one letter is missing, added or wrong, or two are swapped."""
    if len(known) < _SHORTEST or abs(len(name) - len(known)) > 1:
        return False
    at = next((i for i, (a, b) in enumerate(zip(name, known, strict=False)) if a != b), len(known))
    rest, expected = name[at:], known[at:]
    if len(name) > len(known):
        return rest[1:] == expected
    if len(name) < len(known):
        return rest == expected[1:]
    swapped = expected[1::-1] + expected[2:]
    return name != known and (rest[1:] == expected[1:] or rest == swapped)


def _stacklevel() -> int:
    """Return the `stacklevel` at which a warning shows the caller's own line."""
    level = 0
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("penstock."):
        frame = frame.f_back
        level += 1
    return level


def _is_mapping(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)
