"""The initial records of an account: generated, always the same, and consistent with each other."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from importlib.resources import files
from typing import Any

import simplejson

Record = dict[str, Any]

_EXAMPLE = files("sandbox").joinpath("example.json")
_FIRST_OFFER = 0x664F1A2B3C4D5E6F7A8B9C0D
_FIRST_AUDIENCE = 0x675A0C1D2E3F405162738495
_FIRST_SCHEDULE = 0x67811E2F3A4B5C6D7E8F9001
_FIRST_CREATIVE = 2001
_FIRST_LIST = 101

_BEGAN = datetime(2025, 1, 1, tzinfo=timezone.utc)
_LATEST_SIGNUP = datetime(2025, 12, 15, 9, 12)  # noqa: DTZ001 - times of contacts have no time zone
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_LISTS = (
    ("Brightside", "Newsletter", "lime", "active"),
    ("Brightside", "Größe ✓", "infobip", "active"),
    ("Northwind", "Winter signups", "twilio", "paused"),
    ("Northwind", "Leads 2024", "cm", "suspended"),
    ("Brightside", "Old newsletter", "lime", "deleted"),
)
_MESSAGES = (
    "Hi {{first_name}}, your summer deal waits: {{link}}",
    "Nur heute: größte Auswahl, kleinster Preis 🎉 {{link}}",
    "{{first_name}}, " + "the sale that you asked us about has begun and ends on Sunday night. " * 2 + "Look: {{link}}",
)


def offer_id(number: int) -> str:
    """Return the id of the offer with a number, counted from 0."""
    return f"{_FIRST_OFFER + number:024x}"


def make_offers(count: int) -> list[Record]:
    """Return offers. The first two are the example of the vendor's documentation, unchanged.

    Of the others, every tenth is archived and every seventh is paused.
    """
    example: list[Record] = simplejson.loads(_EXAMPLE.read_text(encoding="utf-8"), use_decimal=True)
    return example[:count] + [_offer(number) for number in range(2, count)]


def make_lists() -> list[Record]:
    """Return lists without contacts: two active ones, and one of each other status."""
    return [
        {
            "id": _FIRST_LIST + number,
            "phone_number": f"+1833555{100 + number:04}",
            "brand_name": brand,
            "list_name": name,
            "list_type": kind,
            "status": status,
            "contact_count": 0,
            "created_at": as_text(_BEGAN + timedelta(days=number)),
        }
        for number, (brand, name, kind, status) in enumerate(_LISTS)
    ]


def make_contacts(count: int, lists: Sequence[Record]) -> list[Record]:
    """Return contacts of the lists, newest signup first.

    Every tenth contact has the phone number of the contact before it, on another list.
    """
    homes = [(home["id"], home["phone_number"]) for home in lists]
    return [_contact(number, *homes[number % len(homes)]) for number in range(count)]


def make_creatives(offers: Sequence[str]) -> list[Record]:
    """Return creatives of each status that link to some of the offers."""
    return [_creative(number, _few(number, offers)) for number in range(12)]


def make_audiences(lists: Sequence[Record]) -> list[Record]:
    """Return audiences of the lists; the last one is archived."""
    return [_audience(number, _few(number, lists)) for number in range(5)]


def make_schedules(audiences: Sequence[Record], creatives: Sequence[Record]) -> list[Record]:
    """Return schedules of each status that send creatives to audiences; the last one is archived."""
    statuses = ("on", "on", "off", "draft", "complete", "archive")
    return [
        _schedule(number, status, _few(number, audiences), _few(number, creatives))
        for number, status in enumerate(statuses)
    ]


def _offer(number: int) -> Record:
    created = _BEGAN + timedelta(minutes=number)
    status = "archived" if number % 10 == 9 else "paused" if number % 7 == 6 else "active"
    return {
        "id": offer_id(number),
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
        "created_at": as_text(created),
        "updated_at": as_text(created + timedelta(days=30)),
    }


def _contact(number: int, list_id: int, list_number: str) -> Record:
    signup = _LATEST_SIGNUP - timedelta(minutes=3 * number)
    person = number - 1 if number % 10 == 9 else number
    line = ("CELL PHONE", "CELL PHONE", "VOIP", "LANDLINE", "CELL PHONE", "FAKE", "UNKNOWN")[person % 7]
    sends, clicks = number % 9, number % 4 if number % 9 else 0
    return {
        "phone_number": f"+1{2025550100 + person}",
        "list_number": list_number,
        "list_id": list_id,
        "active": number % 6 != 5,
        "signup_date": signup.isoformat(),
        "signup_method": ("api", "import", "keyword")[number % 3],
        "custom_fields": {"first_name": f"Zoë {person}", "state": "NY"} if number % 5 else {},
        "carrier": ("Verizon Wireless", "T-Mobile USA", "AT&T Mobility", None)[person % 4],
        "line_type": line,
        "timezone": ("America/New_York", "America/Chicago", "America/Los_Angeles", None)[person % 4],
        "is_valid": line != "FAKE",
        "send_count": sends,
        "click_count": clicks,
        "revenue_total": Decimal(clicks * 125) / 100,
        "conversion_count": clicks // 2,
        "last_sent_at": (signup + timedelta(hours=sends)).isoformat() if sends else None,
        "last_clicked_at": (signup + timedelta(hours=sends, minutes=4)).isoformat() if clicks else None,
        "in_workflow": number % 8 == 0,
    }


def _creative(number: int, offers: Sequence[str]) -> Record:
    message = _MESSAGES[number % len(_MESSAGES)]
    return {
        "id": _FIRST_CREATIVE + number,
        "slug": f"crt_creative-{number}_{number:06x}",
        "name": f"Creative {number}",
        "message": message,
        "offer_links": [_offer_link(number, offer) for number, offer in enumerate(offers)],
        "offers": list(offers),
        "status": ("active", "active", "paused", "active", "archived", "active")[number % 6],
        "creative_type": ("automated", "one_time", "welcome")[(number + number // 6) % 3],
        "character_count": len(message),
        "segment_count": _segments(message),
        "created_at": as_text(_BEGAN + timedelta(days=number)),
    }


def _offer_link(number: int, offer: str) -> Record:
    return {
        "key": "link" if number == 0 else f"link{number + 1}",
        "offer_id": offer,
        "url": f"https://track.example.com/click?offer={offer}",
        "url_params": {"sub1": "sms", "sub2": str(number)},
    }


def _audience(number: int, lists: Sequence[Record]) -> Record:
    created = _BEGAN + timedelta(days=10 + number)
    return {
        "id": f"{_FIRST_AUDIENCE + number:024x}",
        "name": f"Audience {number}",
        "description": "Clicked at least once, on a cell phone" if number % 2 else None,
        "source_lists": [home["id"] for home in lists],
        "filter": {
            "operator": "and",
            "conditions": [{"fieldName": "click_count", "compareOperator": "gte", "fieldValue": number}],
            "groups": [
                {
                    "operator": "or",
                    "conditions": [{"fieldName": "line_type", "compareOperator": "eq", "fieldValue": "CELL PHONE"}],
                    "groups": [],
                }
            ],
        },
        "cached_size": sum(home["contact_count"] for home in lists),
        "cached_size_updated_at": as_text(created + timedelta(days=60)),
        "status": "archived" if number == 4 else "active",
        "created_at": as_text(created),
    }


def _schedule(number: int, status: str, audiences: Sequence[Record], creatives: Sequence[Record]) -> Record:
    created = _BEGAN + timedelta(days=20 + number)
    automated = number % 2 == 1
    return {
        "id": f"{_FIRST_SCHEDULE + number:024x}",
        "name": f"Schedule {number}",
        "status": status,
        "send_type": "automated" if automated else "blast",
        "source_lists": sorted({home for audience in audiences for home in audience["source_lists"]}),
        "audiences": [audience["id"] for audience in audiences],
        "is_repeating": automated,
        "send_time": "14:30",
        "send_date": None if automated else "2025-11-28",
        "start_date": "2025-11-01" if automated else None,
        "end_date": "2025-12-31" if automated else None,
        "days_of_week": {day: automated and not day.startswith("s") for day in _DAYS},
        "skip_within_hours": 24 if automated else None,
        "use_local_time": number % 3 == 0,
        "filter_bots": True,
        "is_mms": number == 2,
        "is_cto": False,
        "automated_percent": 50 if automated else None,
        "ir_revenue": Decimal(number * 3275) / 100,
        "blasts": [_blast(variant, len(creatives), creative) for variant, creative in enumerate(creatives)],
        "created_at": as_text(created),
        "updated_at": as_text(created + timedelta(days=30)),
    }


def _blast(variant: int, variants: int, creative: Record) -> Record:
    return {
        "message": creative["message"],
        "offer_links": deepcopy(creative["offer_links"]),
        "percent_audience": 100 // variants,
        "variant_name": "AB"[variant],
        "mms_image_url": "https://images.example.com/sale.png" if variant else None,
    }


def _few(number: int, whole: Sequence[Any]) -> Sequence[Any]:
    """Return one or two consecutive items, starting at a place that depends on the number."""
    start = number % max(len(whole), 1)
    return whole[start : start + 1 + number % 2]


def _segments(message: str) -> int:
    """Return the number of SMS segments of a message; segments are shorter if it is not ASCII."""
    single, joined = (160, 153) if message.isascii() else (70, 67)
    return 1 if len(message) <= single else -(-len(message) // joined)


def as_text(time: datetime) -> str:
    """Return a UTC time in the format of the API."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
