"""The models the relay offers and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Model:
    """One model; prices are USD per million tokens."""

    id: str
    owned_by: str
    input_price: Decimal
    output_price: Decimal = Decimal(0)
    kind: str = "chat"
    created: int = 1_735_689_600

    def cost(self, input_tokens: int, output_tokens: int) -> Decimal:
        """What so many tokens cost, exactly."""
        return (self.input_price * input_tokens + self.output_price * output_tokens) / _MILLION

    def render(self) -> dict[str, Any]:
        """The model object."""
        return {"id": self.id, "object": "model", "created": self.created, "owned_by": self.owned_by}


def _model(name: str, owner: str, input_price: str, output_price: str = "0", kind: str = "chat") -> Model:
    return Model(name, owner, Decimal(input_price), Decimal(output_price), kind)


MODELS: Mapping[str, Model] = {
    model.id: model
    for model in (
        _model("gpt-4.1", "openai", "2.00", "8.00"),
        _model("gpt-4.1-mini", "openai", "0.40", "1.60"),
        _model("gpt-4o", "openai", "2.50", "10.00"),
        _model("gpt-4o-mini", "openai", "0.15", "0.60"),
        _model("claude-sonnet-4.5", "anthropic", "3.00", "15.00"),
        _model("gemini-2.5-flash", "google", "0.30", "2.50"),
        _model("deepseek-v3.2", "deepseek", "0.14", "0.42"),
        _model("text-embedding-3-small", "openai", "0.02", kind="embedding"),
        _model("text-embedding-3-large", "openai", "0.13", kind="embedding"),
    )
}
