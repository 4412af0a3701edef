"""The streams: for each endpoint its name, path, key, schema and the listings that make it whole."""

from __future__ import annotations

from singer_sdk import typing as th

from tap_trackly.pagination import Listing
from tap_trackly.replication import TracklyStream

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
    statuses = ("active", "paused", "archived")
    statuses_setting = "offer_statuses"
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
