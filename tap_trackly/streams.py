"""The streams: for each endpoint its name, path, key, schema and the listings that make it whole."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from singer_sdk import typing as th

from tap_trackly.client import TracklyStream
from tap_trackly.verified_read import Listing

if sys.version_info >= (3, 12):
    from typing import override
else:
    from typing_extensions import override

OFFER_STATUSES = ("active", "paused", "archived")

# Without "properties": the SDK's flattening would spread an empty list of them into nothing.
_OPEN_OBJECT = th.CustomType({"type": ["object", "null"], "additionalProperties": True})


class OffersStream(TracklyStream):
    """The offers that the account promotes, and what a conversion or click on each is paid.

    Source: the vendor's page "List Offers". Deleting an offer archives it, and the default listing
    leaves archived offers out.
    """

    name = "offers"
    path = "/offers"
    records_key = "offers"
    primary_keys = ("id",)
    replication_key = "updated_at"
    listings = (Listing(), Listing("archived"))
    schema = th.PropertiesList(
        th.Property("id", th.StringType, required=True, description="The offer's id, unique in the account."),
        th.Property("slug", th.StringType, description="A readable id, such as ofr_summer-promo_a1b2c3."),
        th.Property("name", th.StringType, description="What the account calls the offer."),
        th.Property("tracking_url", th.StringType, description="Where a click on the offer leads."),
        th.Property(
            "external_platform",
            th.StringType,
            description="The platform that tracks the offer's conversions, such as tune or everflow.",
        ),
        th.Property("external_id", th.StringType, description="The offer's id on that platform."),
        th.Property("advertiser_id", th.StringType, description="The id of the advertiser who pays."),
        th.Property("payout", th.DecimalType, description="What is paid for one conversion or click."),
        th.Property("payout_type", th.StringType, description="What is paid for, such as cpa or cpc."),
        th.Property("filter_bots", th.BooleanType, description="Whether clicks of bots are left out."),
        th.Property(
            "status", th.StringType, description="Such as active, paused or archived, which also means deleted."
        ),
        th.Property("metadata", _OPEN_OBJECT, description="Names and values that the account gave the offer."),
        th.Property("created_at", th.DateTimeType, description="When the offer was made, in UTC."),
        th.Property("updated_at", th.DateTimeType, description="When the offer was last changed, in UTC."),
    ).to_dict()

    @property
    @override
    def wanted_statuses(self) -> Sequence[str] | None:
        statuses = tuple(dict.fromkeys(self.config["offer_statuses"]))
        return None if set(statuses) == set(OFFER_STATUSES) else statuses


class ListsStream(TracklyStream):
    """The lists that contacts sign up to, each with the number that it writes from.

    Source: the vendor's page "List Lists". Deleting a list only marks it, and the default listing
    leaves deleted lists out.
    """

    name = "lists"
    path = "/lists"
    records_key = "lists"
    primary_keys = ("id",)
    listings = (Listing(), Listing("deleted"))
    paginated = False
    schema = th.PropertiesList(
        th.Property("id", th.IntegerType, required=True, description="The list's id, unique in the account."),
        th.Property("phone_number", th.StringType, description="The number that the list writes from."),
        th.Property("brand_name", th.StringType, description="The brand that the list writes for."),
        th.Property("list_name", th.StringType, description="What the account calls the list."),
        th.Property(
            "list_type", th.StringType, description="The provider of the number, such as lime, infobip, twilio or cm."
        ),
        th.Property("status", th.StringType, description="Such as active, paused, suspended or deleted."),
        th.Property("contact_count", th.IntegerType, description="How many contacts the list has."),
        th.Property("created_at", th.DateTimeType, description="When the list was made, in UTC."),
    ).to_dict()


class AudiencesStream(TracklyStream):
    """The parts of lists that the account sends to, and the rules that choose their contacts.

    Source: the vendor's page "List Audiences". The default listing has active audiences only, and an
    audience says nothing of when it was changed.
    """

    name = "audiences"
    path = "/audiences"
    records_key = "audiences"
    primary_keys = ("id",)
    listings = (Listing("active"), Listing("archived"))
    schema = th.PropertiesList(
        th.Property("id", th.StringType, required=True, description="The audience's id, unique in the account."),
        th.Property("name", th.StringType, description="What the account calls the audience."),
        th.Property("description", th.StringType, description="What the account says of the audience."),
        th.Property(
            "source_lists",
            th.ArrayType(th.IntegerType),
            description="The ids of the lists that its contacts come from.",
        ),
        th.Property(
            "filter",
            _OPEN_OBJECT,
            description="The rule that chooses its contacts: an operator, conditions and groups, which are rules too.",
        ),
        th.Property("cached_size", th.IntegerType, description="How many contacts it had when they were last counted."),
        th.Property(
            "cached_size_updated_at", th.DateTimeType, description="When its contacts were last counted, in UTC."
        ),
        th.Property("status", th.StringType, description="Such as active or archived."),
        th.Property("created_at", th.DateTimeType, description="When the audience was made, in UTC."),
    ).to_dict()


class CreativesStream(TracklyStream):
    """The messages that the account sends, and the offers that each links to.

    Source: the vendor's page "List Creatives". The default listing has active creatives only, and a
    creative says nothing of when it was changed.
    """

    name = "creatives"
    path = "/creatives"
    records_key = "creatives"
    primary_keys = ("id",)
    listings = (Listing("active"), Listing("paused"), Listing("archived"))
    schema = th.PropertiesList(
        th.Property("id", th.IntegerType, required=True, description="The creative's id, unique in the account."),
        th.Property("slug", th.StringType, description="A readable id."),
        th.Property("name", th.StringType, description="What the account calls the creative."),
        th.Property("message", th.StringType, description="The text that is sent, with the places of its links."),
        th.Property(
            "offer_links",
            th.ArrayType(_OPEN_OBJECT),
            description="The links in the message: key, offer_id, url and url_params of each.",
        ),
        th.Property("offers", th.ArrayType(th.StringType), description="The ids of the offers that it links to."),
        th.Property("status", th.StringType, description="Such as active, paused or archived."),
        th.Property("creative_type", th.StringType, description="Such as automated, one_time or welcome."),
        th.Property("character_count", th.IntegerType, description="How many characters the message has."),
        th.Property("segment_count", th.IntegerType, description="How many SMS the message is sent as."),
        th.Property("created_at", th.DateTimeType, description="When the creative was made, in UTC."),
    ).to_dict()


class SchedulesStream(TracklyStream):
    """What is sent when and to whom, and what it earned.

    Source: the vendor's page "List Schedules". The default listing leaves out the archive.
    """

    name = "schedules"
    path = "/schedules"
    records_key = "schedules"
    primary_keys = ("id",)
    replication_key = "updated_at"
    listings = (Listing(), Listing("archive"))
    paginated = False
    schema = th.PropertiesList(
        th.Property("id", th.StringType, required=True, description="The schedule's id, unique in the account."),
        th.Property("name", th.StringType, description="What the account calls the schedule."),
        th.Property("status", th.StringType, description="Such as draft, off, on, complete or archive."),
        th.Property("send_type", th.StringType, description="Such as blast or automated."),
        th.Property(
            "source_lists", th.ArrayType(th.IntegerType), description="The ids of the lists that it sends from."
        ),
        th.Property("audiences", th.ArrayType(th.StringType), description="The ids of the audiences that it sends to."),
        th.Property("is_repeating", th.BooleanType, description="Whether it sends more than once."),
        th.Property("send_time", th.StringType, description="The time of day at which it sends, such as 14:30."),
        th.Property("send_date", th.StringType, description="The day on which it sends."),
        th.Property("start_date", th.StringType, description="The day from which it sends."),
        th.Property("end_date", th.StringType, description="The day until which it sends."),
        th.Property(
            "days_of_week", _OPEN_OBJECT, description="For each of the seven days whether it sends on that day."
        ),
        th.Property(
            "skip_within_hours",
            th.IntegerType,
            description="Contacts who were sent a message within so many hours are left out.",
        ),
        th.Property(
            "use_local_time", th.BooleanType, description="Whether send_time is meant in each contact's time zone."
        ),
        th.Property("filter_bots", th.BooleanType, description="Whether clicks of bots are left out."),
        th.Property("is_mms", th.BooleanType, description="Whether it sends MMS with an image."),
        th.Property("is_cto", th.BooleanType, description="The schedule's flag CTO, as the vendor calls it."),
        th.Property(
            "automated_percent", th.IntegerType, description="The percentage that an automated schedule sends to."
        ),
        th.Property("ir_revenue", th.DecimalType, description="The schedule's IR revenue, as the vendor calls it."),
        th.Property(
            "blasts",
            th.ArrayType(_OPEN_OBJECT),
            description="The variants that it sends: message, offer_links, percent_audience, variant_name and "
            "mms_image_url of each.",
        ),
        th.Property("created_at", th.DateTimeType, description="When the schedule was made, in UTC."),
        th.Property("updated_at", th.DateTimeType, description="When the schedule was last changed, in UTC."),
    ).to_dict()


class ContactsStream(TracklyStream):
    """Who is on which list, and what came of writing to them: one record per contact and list.

    Source: the vendor's page "List Contacts". It holds phone numbers, so it is read only if it is
    selected. A contact has no id of its own and says nothing of when it was changed.
    """

    name = "contacts"
    path = "/contacts"
    records_key = "contacts"
    primary_keys = ("list_id", "phone_number")
    listings = (Listing(has_stable_order=True),)
    max_page_size = 1000
    personal_fields = ("phone_number",)
    selected_by_default = False
    schema = th.PropertiesList(
        th.Property(
            "phone_number", th.StringType, required=True, description="The contact's number, such as +12025550100."
        ),
        th.Property("list_number", th.StringType, description="The number that the list writes from."),
        th.Property("list_id", th.IntegerType, required=True, description="The id of the list."),
        th.Property("active", th.BooleanType, description="Whether the contact is sent messages of the list."),
        th.Property("signup_date", th.DateTimeType, description="When the contact came onto the list, in UTC."),
        th.Property("signup_method", th.StringType, description="How the contact came onto the list."),
        th.Property("custom_fields", _OPEN_OBJECT, description="Names and values that the account gave the contact."),
        th.Property("carrier", th.StringType, description="The company that carries the number."),
        th.Property("line_type", th.StringType, description="Such as CELL PHONE, VOIP, LANDLINE, FAKE or UNKNOWN."),
        th.Property("timezone", th.StringType, description="The time zone that the contact is in."),
        th.Property("is_valid", th.BooleanType, description="Whether messages can reach the number."),
        th.Property("send_count", th.IntegerType, description="How many messages the contact was sent."),
        th.Property("click_count", th.IntegerType, description="How often the contact clicked a link."),
        th.Property("revenue_total", th.DecimalType, description="What the contact has earned the account."),
        th.Property("conversion_count", th.IntegerType, description="How many conversions the contact made."),
        th.Property("last_sent_at", th.DateTimeType, description="When the latest message was sent, in UTC."),
        th.Property("last_clicked_at", th.DateTimeType, description="When the contact last clicked, in UTC."),
        th.Property("in_workflow", th.BooleanType, description="Whether the contact is in a workflow now."),
    ).to_dict()
