"""What the account holds, and how it changes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from importlib.resources import files
from typing import Any

import simplejson

Offer = dict[str, Any]

_EXAMPLE = files("sandbox").joinpath("example.json")
_FIRST_ID = 0x664F1A2B3C4D5E6F7A8B9C0D
_FIELDS = (
    "name",
    "tracking_url",
    "external_platform",
    "external_id",
    "advertiser_id",
    "payout",
    "payout_type",
    "filter_bots",
    "status",
    "metadata",
)


class Account:
    """A Trackly account in memory.

    The first two offers are the ones of the vendor's page, word for word; of the others every tenth
    is archived and every seventh paused.

    Args:
        offers: How many offers it begins with.
    """

    def __init__(self, offers: int) -> None:
        example: list[Offer] = simplejson.loads(_EXAMPLE.read_text(encoding="utf-8"), use_decimal=True)
        made = example[:offers] + [_offer(number) for number in range(2, offers)]
        self.offers: dict[str, Offer] = {offer["id"]: offer for offer in made}

    def listed(self, status: str | None) -> list[Offer]:
        """Return the offers with a status, or all but the archived ones."""
        if status is None:
            return [offer for offer in self.offers.values() if offer["status"] != "archived"]
        return [offer for offer in self.offers.values() if offer["status"] == status]

    def create(self, fields: Mapping[str, Any]) -> Offer:
        """Add an offer and return it."""
        number = len(self.offers)
        offer: Offer = {
            **dict.fromkeys(_FIELDS),
            "id": f"{_FIRST_ID + number:024x}",
            "slug": f"ofr_{number}",
            "filter_bots": False,
            "status": "active",
            "metadata": {},
            "created_at": _now(),
        }
        self.offers[offer["id"]] = offer
        return self.update(offer["id"], fields)

    def update(self, offer_id: str, fields: Mapping[str, Any]) -> Offer:
        """Change an offer and return it; metadata is merged.

        Raises:
            KeyError: If there is no such offer.
        """
        offer = self.offers[offer_id]
        merged = {**offer["metadata"], **(fields.get("metadata") or {})}
        known = {name: value for name, value in fields.items() if name in _FIELDS}
        offer.update(known, metadata=merged, updated_at=_now())
        return offer

    def archive(self, offer_id: str) -> Offer:
        """Archive an offer, which is what deleting it means.

        Raises:
            KeyError: If there is no such offer.
        """
        return self.update(offer_id, {"status": "archived"})


def _offer(number: int) -> Offer:
    created = datetime(2025, 1, 1, tzinfo=timezone.utc) + timedelta(minutes=number)
    status = "archived" if number % 10 == 9 else "paused" if number % 7 == 6 else "active"
    return {
        "id": f"{_FIRST_ID + number:024x}",
        "slug": f"ofr_offer-{number}_{number:06x}",
        "name": f"Offer {number}: Größe ✓",
        "tracking_url": f"https://track.example.com/click?offer_id={number}",
        "external_platform": ("tune", "everflow", None)[number % 3],
        "external_id": str(number) if number % 3 < 2 else None,
        "advertiser_id": f"adv_{number % 50}",
        "payout": Decimal(number % 1000) / 100,
        "payout_type": ("cpa", "cpc")[number % 2],
        "filter_bots": number % 2 == 0,
        "status": status,
        "metadata": {"vertical": ("health", "finance", "travel")[number % 3], "geo": "US"},
        "created_at": _text(created),
        "updated_at": _text(created + timedelta(days=30)),
    }


def _now() -> str:
    return _text(datetime.now(timezone.utc))


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
