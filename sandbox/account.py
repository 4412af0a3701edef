"""The records of the sandbox account, and the changes that the API allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from sandbox import samples
from sandbox.samples import Record

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
    """A Trackly account in memory, which may be changed while it is served.

    Args:
        offers: Initial number of offers.
        contacts: Initial number of contacts.

    Attributes:
        offers: The offers by id.
        lists: The lists by id.
        creatives: The creatives by id.
        audiences: The audiences by id.
        schedules: The schedules by id.
        contacts: The contacts in the order in which they are served, newest signup first.
    """

    def __init__(self, offers: int, contacts: int = 300) -> None:
        lists = samples.make_lists()
        kept = [home for home in lists if home["status"] != "deleted"]
        self.contacts: list[Record] = samples.make_contacts(contacts, kept)
        _count_contacts(lists, self.contacts)
        self.offers: dict[str, Record] = _by_id(samples.make_offers(offers))
        self.lists: dict[int, Record] = _by_id(lists)
        self.creatives: dict[int, Record] = _by_id(samples.make_creatives(list(self.offers)))
        self.audiences: dict[str, Record] = _by_id(samples.make_audiences(kept))
        self.schedules: dict[str, Record] = _by_id(
            samples.make_schedules(list(self.audiences.values()), list(self.creatives.values()))
        )

    def records(self, kind: str) -> list[Record]:
        """Return all records of a kind, such as "offers", in the order in which they are served.

        There are none of a kind without samples.
        """
        held: dict[Any, Record] | list[Record] = getattr(self, kind, [])
        return list(held.values()) if isinstance(held, dict) else held

    def listed(self, status: str | None) -> list[Record]:
        """Return the offers with a status; None for all that are not archived."""
        if status is None:
            return [offer for offer in self.offers.values() if offer["status"] != "archived"]
        return [offer for offer in self.offers.values() if offer["status"] == status]

    def create(self, fields: Mapping[str, Any]) -> Record:
        """Add an offer and return it."""
        number = len(self.offers)
        offer: Record = {
            **dict.fromkeys(_FIELDS),
            "id": samples.offer_id(number),
            "slug": f"ofr_{number}",
            "filter_bots": False,
            "status": "active",
            "metadata": {},
            "created_at": _now(),
        }
        self.offers[offer["id"]] = offer
        return self.update(offer["id"], fields)

    def update(self, offer_id: str, fields: Mapping[str, Any]) -> Record:
        """Change an offer and return it; metadata is merged.

        Raises:
            KeyError: If there is no such offer.
        """
        offer = self.offers[offer_id]
        merged = {**offer["metadata"], **(fields.get("metadata") or {})}
        known = {name: value for name, value in fields.items() if name in _FIELDS}
        offer.update(known, metadata=merged, updated_at=_now())
        return offer

    def archive(self, offer_id: str) -> Record:
        """Archive an offer, as DELETE does.

        Raises:
            KeyError: If there is no such offer.
        """
        return self.update(offer_id, {"status": "archived"})


def _by_id(records: list[Record]) -> dict[Any, Record]:
    return {record["id"]: record for record in records}


def _count_contacts(lists: list[Record], contacts: list[Record]) -> None:
    counts = Counter(contact["list_id"] for contact in contacts)
    for home in lists:
        home["contact_count"] = counts[home["id"]]


def _now() -> str:
    return samples.as_text(datetime.now(timezone.utc))
