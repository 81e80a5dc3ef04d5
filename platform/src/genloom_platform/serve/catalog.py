"""What an endpoint serves, and which of it a request means."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from genloom.errors import UnknownName
from genloom_platform.serve.answers import ModelEntry, ModelList
from genloom_platform.serve.errors import MAX_SHOWN, Refusal, from_name
from genloom_platform.serve.model import Card

Kind = Literal["generator", "predictor"]
ROUTES: dict[Kind, str] = {"generator": "/v1/generate", "predictor": "/v1/predict"}


class Catalog:
    """The served models by id: the name, or `name@version` where several versions are served."""

    def __init__(self, models: Callable[[], Sequence[Card]]) -> None:
        self._models = models

    @property
    def cards(self) -> dict[str, Card]:
        """What is served now: versions come and go."""
        cards = self._models()
        names = [card.name for card in cards]
        return {card.name if names.count(card.name) == 1 else card.full_name: card for card in cards}

    def of_kind(self, kind: Kind) -> dict[str, Card]:
        """The models of one kind, by id."""
        return {name: card for name, card in self.cards.items() if card.kind == kind}

    def listing(self) -> ModelList:
        """What `GET /v1/models` answers."""
        return ModelList(data=[_entry(name, card) for name, card in self.cards.items()])

    def entry(self, name: str) -> ModelEntry:
        """What `GET /v1/models/{name}` answers.

        Raises:
            Refusal: It is not served.
        """
        card, cards = self._named(name), self.cards
        return _entry(card.name if card.name in cards else card.full_name, card)

    def find(self, kind: Kind, name: str | None) -> Card:
        """The model that a request means; where one of the kind is served, it need not be named.

        Raises:
            Refusal: It is not served, it is of the other kind, or it must be named.
        """
        candidates = self.of_kind(kind)
        if name is None:
            if len(candidates) == 1:
                return next(iter(candidates.values()))
            raise self._unnamed(kind, list(candidates))
        card = self._named(name)
        if card.kind != kind:
            message = f"model = {name!r}: it is a {card.kind}; send this to {ROUTES[card.kind]}"
            raise Refusal(422, "wrong_kind", message, param="model")
        return replace(card, pinned=name == card.full_name)

    def making(self, makes: str, name: str | None) -> Card:
        """The generator that a request means, where only those that make one kind of sample fit.

        Raises:
            Refusal: It is not served, makes something else, or must be named.
        """
        fitting = [each for each, card in self.of_kind("generator").items() if card.makes == makes]
        if name is None and len(fitting) != 1:
            raise self._unnamed("generator", fitting, f" of {makes}")
        card = self.find("generator", name or fitting[0])
        if card.makes != makes:
            message = f"model = {name!r}: it makes {card.makes}, and this path asks for {makes}"
            remedy = f"send this to {ROUTES['generator']}/{name}"
            raise Refusal(422, "wrong_kind", f"{message}; {remedy}", param="model")
        return card

    def _named(self, name: str) -> Card:
        by_name = self.cards | {card.full_name: card for card in self.cards.values()}
        if name not in by_name:
            raise from_name(UnknownName("model", name[:MAX_SHOWN], self.cards))
        return by_name[name]

    def _unnamed(self, kind: Kind, candidates: list[str], of: str = "") -> Refusal:
        if not candidates:
            message = f"no {kind}{of} is served here; GET /v1/models lists what is"
            return Refusal(404, "model_not_found", message)
        known = ", ".join(candidates)
        message = f"model is missing, and {len(candidates)} {kind}s{of} are served; name one of {known}"
        return Refusal(422, "missing_model", message, param="model")


def _entry(name: str, card: Card) -> ModelEntry:
    return ModelEntry(
        id=name,
        created=card.created,
        version=card.version,
        run=card.run,
        kind=card.kind,
        makes=card.makes,
    )
