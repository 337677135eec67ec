"""Calling models: enough to prove that a key works, and to burn its quota to the token and the cent."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from aikeys.relay_simulator.call import Answer
from aikeys.relay_simulator.catalogue import MODELS, Model
from aikeys.relay_simulator.dispatch import Request
from aikeys.relay_simulator.errors import RelayError
from aikeys.relay_simulator.keys import Key

MAX_OUTPUT_TOKENS = 100_000
DEFAULT_OUTPUT_TOKENS = 16
DEFAULT_DIMENSIONS = 16
_WORDS = [
    "this",
    "answer",
    "was",
    "made",
    "up",
    "by",
    "the",
    "relay",
    "simulator",
    "and",
    "no",
    "model",
    "was",
    "ever",
    "asked",
    "about",
    "it",
]
# Fields of the OpenAI request that change nothing here.
_IGNORED = (
    "temperature", "top_p", "stop", "presence_penalty", "frequency_penalty", "logit_bias", "user", "seed", "tools",
    "tool_choice", "response_format", "logprobs", "top_logprobs", "parallel_tool_calls", "reasoning_effort",
    "metadata", "store", "service_tier", "modalities", "prediction", "safety_identifier", "prompt_cache_key",
)  # fmt: skip


def models(request: Request) -> Answer:
    """``GET /models``: those the key may use."""
    key = request.key
    _used(key, request.now)
    data = [model.render() for model in MODELS.values() if key.allows_model(model.id)]
    return Answer(200, {"object": "list", "data": data})


def chat(request: Request) -> Answer:
    """``POST /chat/completions``.

    With ``max_tokens`` the answer has exactly that many tokens, without it 16: a test knows what it spends.
    """
    key, fields, now = request.key, request.fields, request.now
    model_name = fields.string("model")
    messages = fields.take("messages")
    asked = fields.integer("max_tokens", 1, MAX_OUTPUT_TOKENS)
    asked_newer = fields.integer("max_completion_tokens", 1, MAX_OUTPUT_TOKENS)
    limit = asked_newer if asked_newer is not None else asked
    choices = fields.integer("n", 1, 16) or 1
    stream = fields.boolean("stream")
    options = fields.take("stream_options")
    for name in _IGNORED:
        fields.take(name)
    fields.finish()
    model = _model(key, model_name, "chat")
    input_tokens = _prompt_tokens(messages)
    length = limit or DEFAULT_OUTPUT_TOKENS
    _charge(request, key, model, input_tokens, length * choices)
    usage = _usage(input_tokens, length * choices)
    finish = "stop" if limit is None else "length"
    base = {
        "id": "chatcmpl-" + request.account.identifiers.ulid(),
        "created": int(now),
        "model": model.id,
    }
    if stream:
        with_usage = isinstance(options, dict) and options.get("include_usage") is True
        return Answer(200, {}, events=_chunks(base, length, choices, finish, usage if with_usage else None))
    text = " ".join(_word(i) for i in range(length))
    message = {"role": "assistant", "content": text, "refusal": None}
    return Answer(
        200,
        {
            **base,
            "object": "chat.completion",
            "choices": [
                {"index": i, "message": message, "logprobs": None, "finish_reason": finish}
                for i in range(choices)
            ],
            "usage": usage,
        },
    )


def embeddings(request: Request) -> Answer:
    """``POST /embeddings``: vectors that depend on nothing but the input."""
    key, fields = request.key, request.fields
    model_name = fields.string("model")
    given = fields.take("input")
    dimensions = fields.integer("dimensions", 1, 3072) or DEFAULT_DIMENSIONS
    encoding = fields.string("encoding_format") or "float"
    fields.take("user")
    fields.finish()
    if encoding not in ("float", "base64"):
        raise RelayError("invalid_request", "encoding_format is float or base64", param="encoding_format")
    model = _model(key, model_name, "embedding")
    inputs = _inputs(given)
    input_tokens = sum(_tokens(item) if isinstance(item, str) else len(item) for item in inputs)
    _charge(request, key, model, input_tokens, 0)
    data = []
    for index, item in enumerate(inputs):
        vector = _vector(repr(item), dimensions)
        packed = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
        data.append(
            {"object": "embedding", "index": index, "embedding": packed if encoding == "base64" else vector}
        )
    usage = {"prompt_tokens": input_tokens, "total_tokens": input_tokens}
    return Answer(200, {"object": "list", "data": data, "model": model.id, "usage": usage})


def _model(key: Key, name: str | None, kind: str) -> Model:
    if name is None:
        raise RelayError("invalid_request", "model is missing", param="model")
    if not key.allows_model(name):
        raise RelayError("model_not_allowed", param="model")
    model = MODELS.get(name)
    if model is None or model.kind != kind:
        raise RelayError("invalid_model", param="model")
    return model


def _charge(request: Request, key: Key, model: Model, input_tokens: int, output_tokens: int) -> None:
    """All or nothing: what would pass a limit is refused before anything is spent."""
    now, lineage = request.now, key.lineage
    total = input_tokens + output_tokens
    wait = lineage.tokens.wait(total, key.tpm, now)
    if wait > 0:
        raise RelayError("rate_limit_exceeded", retry_after=max(1, math.ceil(wait)))
    cost = model.cost(input_tokens, output_tokens)
    if key.budget is not None:
        _check_budget(key, cost, now)
    lineage.tokens.charge(total, now)
    lineage.spending.charge(cost, now)
    request.account.usage.record(
        key, model.id, input_tokens=input_tokens, output_tokens=output_tokens, cost=cost, now=now
    )
    _used(key, now)


def _check_budget(key: Key, cost: Decimal, now: float) -> None:
    budget = key.budget
    if budget is not None and key.lineage.spending.spent(budget.period, now) + cost > budget.limit:
        raise RelayError("budget_exceeded", extra={"resets_at": budget.resets_at(now)})


def _used(key: Key, now: float) -> None:
    key.last_used_at = now
    key.data_plane_uses += 1
    if key.refused_since is not None:
        key.uses_after_end += 1


def _prompt_tokens(messages: Any) -> int:
    if not isinstance(messages, list) or not messages:
        raise RelayError("invalid_request", "messages must be a list that is not empty", param="messages")
    total = 3
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise RelayError("invalid_request", "a message is an object with a role", param="messages")
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"text": content}]
        texts = [part.get("text") for part in parts if isinstance(part, dict)]
        total += 4 + sum(_tokens(text) for text in texts if isinstance(text, str))
    return total


def _tokens(text: str) -> int:
    """Four characters a token, as the rule of thumb goes."""
    return max(1, math.ceil(len(text) / 4))


def _usage(input_tokens: int, output_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }


def _word(position: int) -> str:
    return _WORDS[position % len(_WORDS)]


def _chunks(
    base: dict[str, Any], length: int, choices: int, finish: str, usage: dict[str, int] | None
) -> Iterator[dict[str, Any]]:
    def chunk(index: int, delta: dict[str, str], reason: str | None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**base, "object": "chat.completion.chunk", "choices": [choice]}

    for index in range(choices):
        yield chunk(index, {"role": "assistant", "content": ""}, None)
        for position in range(length):
            yield chunk(index, {"content": _word(position) if position == 0 else " " + _word(position)}, None)
        yield chunk(index, {}, finish)
    if usage is not None:
        yield {**base, "object": "chat.completion.chunk", "choices": [], "usage": usage}


def _inputs(given: Any) -> list[str | list[int]]:
    if isinstance(given, str) and given:
        return [given]
    if isinstance(given, list) and given:
        if all(isinstance(token, int) and not isinstance(token, bool) for token in given):
            return [given]
        if all(isinstance(item, str) and item for item in given):
            return given
        if all(isinstance(item, list) and item and all(isinstance(t, int) for t in item) for item in given):
            return given
    raise RelayError("invalid_request", "input is a string, a list of strings, or tokens", param="input")


def _vector(text: str, dimensions: int) -> list[float]:
    raw = hashlib.shake_256(text.encode()).digest(2 * dimensions)
    values = [value / 32768 for value in struct.unpack(f"<{dimensions}h", raw)]
    norm = math.sqrt(sum(value * value for value in values)) or 1.0
    return [round(value / norm, 8) for value in values]
