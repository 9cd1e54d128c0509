"""The OpenAI SDK's clients on penstock: one import changes, the rest of the code stays.

    from penstock.compat.openai import AsyncOpenAI

Needs the extra `openai`. Not loaded by `import penstock`.
"""

from __future__ import annotations

try:
    import openai as _openai
except ImportError as _error:
    raise ImportError(
        'penstock.compat.openai needs openai: pip install "penstock[openai]"'
    ) from _error

from ._clients import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI

del _openai

__all__ = ["AsyncAzureOpenAI", "AsyncOpenAI", "AzureOpenAI", "OpenAI"]
