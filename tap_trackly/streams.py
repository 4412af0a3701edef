"""The streams: name, path, primary key, schema and listings of each endpoint."""

from collections.abc import Sequence
from typing import Any

from singer_sdk import typing as th
from typing_extensions import override

from tap_trackly.client import TracklyStream

OFFER_STATUSES = ("active", "paused", "archived")
# Has no "properties": with empty "properties", the SDK's flattening would drop the field.
_OPEN_OBJECT = th.CustomType({"type": ["object", "null"], "additionalProperties": True})
_OBJECTS = th.ArrayType(_OPEN_OBJECT)


def _schema(*properties: th.Property[Any]) -> dict[str, Any]:
    """Return a JSON schema without `$schema`: some targets refuse another draft than their own."""
    schema: dict[str, Any] = th.PropertiesList(*properties).to_dict()
    return {name: value for name, value in schema.items() if name != "$schema"}


class OffersStream(TracklyStream):
    """Offers that the account promotes, with their payout per conversion or click.

    Source: the vendor's page "List Offers". Deleting an offer sets its status to archived, and the default
    listing leaves out archived offers.
    """

    name = "offers"
    path = "/offers"
    primary_keys = ("id",)
    replication_key = "updated_at"
    schema = _schema(
        th.Property("id", th.StringType, required=True, description="Offer id"),
        th.Property("slug", th.StringType, description="Readable id, such as ofr_summer-promo_a1b2c3"),
        th.Property("name", th.StringType, description="Offer name"),
        th.Property("tracking_url", th.StringType, description="URL that a click is sent to"),
        th.Property("external_platform", th.StringType, description="Tracking platform, such as tune or everflow"),
        th.Property("external_id", th.StringType, description="Offer id on the tracking platform"),
        th.Property("advertiser_id", th.StringType, description="Advertiser id"),
        th.Property("payout", th.DecimalType, description="Payout for one conversion or click"),
        th.Property("payout_type", th.StringType, description="Payout type, such as cpa (conversion) or cpc (click)"),
        th.Property("filter_bots", th.BooleanType, description="Whether clicks by bots are filtered out"),
        th.Property("status", th.StringType, description="Status, such as active or paused; archived when deleted"),
        th.Property("metadata", _OPEN_OBJECT, description="Custom names and values"),
        th.Property("created_at", th.DateTimeType, description="Time of creation in UTC"),
        th.Property("updated_at", th.DateTimeType, description="Time of the last change in UTC"),
    )

    @property
    @override
    def listings(self) -> Sequence[str | None]:  # type: ignore[override]
        statuses = tuple(dict.fromkeys(self.config["offer_statuses"]))
        return (None, "archived") if set(statuses) == set(OFFER_STATUSES) else statuses


class ListsStream(TracklyStream):
    """Lists that contacts sign up to.

    Source: the vendor's page "List Lists". The default listing leaves out deleted lists.
    """

    name = "lists"
    path = "/lists"
    primary_keys = ("id",)
    listings = (None, "deleted")
    paginated = False
    schema = _schema(
        th.Property("id", th.IntegerType, required=True, description="List id"),
        th.Property("phone_number", th.StringType, description="Phone number that the list sends from"),
        th.Property("brand_name", th.StringType, description="Brand name"),
        th.Property("list_name", th.StringType, description="List name"),
        th.Property("list_type", th.StringType, description="Number provider, such as lime, infobip, twilio or cm"),
        th.Property("status", th.StringType, description="Status, such as active, paused, suspended or deleted"),
        th.Property("contact_count", th.IntegerType, description="Number of contacts"),
        th.Property("created_at", th.DateTimeType, description="Time of creation in UTC"),
    )


class AudiencesStream(TracklyStream):
    """Audiences: segments of lists and the filters that define them.

    Source: the vendor's page "List Audiences". The default listing has active audiences only.
    """

    name = "audiences"
    path = "/audiences"
    primary_keys = ("id",)
    listings = ("active", "archived")
    schema = _schema(
        th.Property("id", th.StringType, required=True, description="Audience id"),
        th.Property("name", th.StringType, description="Audience name"),
        th.Property("description", th.StringType, description="Audience description"),
        th.Property("source_lists", th.ArrayType(th.IntegerType), description="Ids of the lists to select from"),
        th.Property("filter", _OPEN_OBJECT, description="Filter: operator, conditions and nested groups"),
        th.Property("cached_size", th.IntegerType, description="Number of contacts at the last count"),
        th.Property("cached_size_updated_at", th.DateTimeType, description="Time of the last count in UTC"),
        th.Property("status", th.StringType, description="Status, such as active or archived"),
        th.Property("created_at", th.DateTimeType, description="Time of creation in UTC"),
    )


class CreativesStream(TracklyStream):
    """Creatives: the messages of the account and the offers that they link to.

    Source: the vendor's page "List Creatives". The default listing has active creatives only.
    """

    name = "creatives"
    path = "/creatives"
    primary_keys = ("id",)
    listings = ("active", "paused", "archived")
    schema = _schema(
        th.Property("id", th.IntegerType, required=True, description="Creative id"),
        th.Property("slug", th.StringType, description="Readable id"),
        th.Property("name", th.StringType, description="Creative name"),
        th.Property("message", th.StringType, description="Message text with placeholders for links"),
        th.Property("offer_links", _OBJECTS, description="Links in the message: key, offer_id, url and url_params"),
        th.Property("offers", th.ArrayType(th.StringType), description="Ids of the offers that the message links to"),
        th.Property("status", th.StringType, description="Status, such as active, paused or archived"),
        th.Property("creative_type", th.StringType, description="Type, such as automated, one_time or welcome"),
        th.Property("character_count", th.IntegerType, description="Number of characters"),
        th.Property("segment_count", th.IntegerType, description="Number of SMS segments"),
        th.Property("created_at", th.DateTimeType, description="Time of creation in UTC"),
    )


class SchedulesStream(TracklyStream):
    """Schedules: what is sent, when and to whom, and its revenue.

    Source: the vendor's page "List Schedules". The default listing leaves out the status archive.
    """

    name = "schedules"
    path = "/schedules"
    primary_keys = ("id",)
    replication_key = "updated_at"
    listings = (None, "archive")
    paginated = False
    schema = _schema(
        th.Property("id", th.StringType, required=True, description="Schedule id"),
        th.Property("name", th.StringType, description="Schedule name"),
        th.Property("status", th.StringType, description="Status, such as draft, off, on, complete or archive"),
        th.Property("send_type", th.StringType, description="Type, such as blast or automated"),
        th.Property("source_lists", th.ArrayType(th.IntegerType), description="Ids of the lists to send from"),
        th.Property("audiences", th.ArrayType(th.StringType), description="Ids of the audiences to send to"),
        th.Property("is_repeating", th.BooleanType, description="Whether the schedule repeats"),
        th.Property("send_time", th.StringType, description="Time of day, such as 14:30"),
        th.Property("send_date", th.StringType, description="Send date"),
        th.Property("start_date", th.StringType, description="Start date"),
        th.Property("end_date", th.StringType, description="End date"),
        th.Property("days_of_week", _OPEN_OBJECT, description="Whether messages are sent, by day of the week"),
        th.Property("skip_within_hours", th.IntegerType, description="Minimum hours between two messages to a contact"),
        th.Property("use_local_time", th.BooleanType, description="Whether send_time is the contact's local time"),
        th.Property("filter_bots", th.BooleanType, description="Whether clicks by bots are filtered out"),
        th.Property("is_mms", th.BooleanType, description="Whether messages are sent as MMS"),
        th.Property("is_cto", th.BooleanType, description="CTO flag, as the vendor calls it"),
        th.Property("automated_percent", th.IntegerType, description="Percentage of an automated schedule"),
        th.Property("ir_revenue", th.DecimalType, description="IR revenue, as the vendor calls it"),
        th.Property("blasts", _OBJECTS, description="Message variants: message, offer_links, percent_audience"),
        th.Property("created_at", th.DateTimeType, description="Time of creation in UTC"),
        th.Property("updated_at", th.DateTimeType, description="Time of the last change in UTC"),
    )


class ContactsStream(TracklyStream):
    """Contacts: one record per contact and list. Not selected by default, because they contain phone numbers.

    Source: the vendor's page "List Contacts": newest signup first; contacts have no id.
    """

    name = "contacts"
    path = "/contacts"
    primary_keys = ("list_id", "phone_number")
    optional_replication_key = "signup_date"
    is_newest_first = True
    max_page_size = 1000
    personal_fields = ("phone_number",)
    selected_by_default = False
    schema = _schema(
        th.Property("phone_number", th.StringType, required=True, description="Phone number, such as +12025550100"),
        th.Property("list_number", th.StringType, description="Phone number that the list sends from"),
        th.Property("list_id", th.IntegerType, required=True, description="List id"),
        th.Property("active", th.BooleanType, description="Whether the contact receives messages from the list"),
        th.Property("signup_date", th.DateTimeType, description="Time of signup in UTC"),
        th.Property("signup_method", th.StringType, description="Method of signup"),
        th.Property("custom_fields", _OPEN_OBJECT, description="Custom names and values"),
        th.Property("carrier", th.StringType, description="Carrier"),
        th.Property("line_type", th.StringType, description="Line type, such as CELL PHONE, VOIP or LANDLINE"),
        th.Property("timezone", th.StringType, description="Time zone"),
        th.Property("is_valid", th.BooleanType, description="Whether the phone number is reachable"),
        th.Property("send_count", th.IntegerType, description="Number of messages sent"),
        th.Property("click_count", th.IntegerType, description="Number of clicks"),
        th.Property("revenue_total", th.DecimalType, description="Revenue"),
        th.Property("conversion_count", th.IntegerType, description="Number of conversions"),
        th.Property("last_sent_at", th.DateTimeType, description="Time of the last message in UTC"),
        th.Property("last_clicked_at", th.DateTimeType, description="Time of the last click in UTC"),
        th.Property("in_workflow", th.BooleanType, description="Whether the contact is in a workflow"),
    )
