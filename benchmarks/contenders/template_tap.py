"""A tap from the cookiecutter template of the Meltano Singer SDK: the SDK does all the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import requests
from singer_sdk import RESTStream, Stream, Tap
from singer_sdk import typing as th
from singer_sdk.authenticators import APIKeyAuthenticator
from singer_sdk.pagination import PageNumberPaginator

from tap_trackly.streams import ContactsStream as OurContacts
from tap_trackly.streams import OffersStream as OurOffers


class Paginator(PageNumberPaginator):
    """Continues to the last page that the API announces."""

    def has_more(self, response: requests.Response) -> bool:
        """Return whether there is another page."""
        return self.current_value < int(response.json()["pagination"]["total_pages"])


class TemplateStream(RESTStream[int]):
    """The base class of the streams."""

    page_size: int

    @property
    def url_base(self) -> str:
        """The base URL of the API."""
        return str(self.config["api_url"])

    @property
    def authenticator(self) -> APIKeyAuthenticator:
        """The authenticator, which sends the API key."""
        return APIKeyAuthenticator(key="X-Api-Key", value=self.config["api_key"])

    def get_new_paginator(self) -> Paginator:
        """Return a paginator that starts at page 1."""
        return Paginator(start_value=1)

    def get_url_params(self, context: Mapping[str, Any] | None, next_page_token: int | None) -> dict[str, Any]:  # noqa: ARG002
        """Return the query parameters of a request."""
        return {"page": next_page_token, "per_page": self.page_size}


class OffersStream(TemplateStream):
    """The default listing of offers."""

    name = "offers"
    path = "/offers"
    primary_keys = ("id",)
    replication_key = "updated_at"
    records_jsonpath = "$.offers[*]"
    schema = OurOffers.schema
    page_size = 100


class ContactsStream(TemplateStream):
    """The listing of contacts."""

    name = "contacts"
    path = "/contacts"
    primary_keys = ("list_id", "phone_number")
    records_jsonpath = "$.contacts[*]"
    schema = OurContacts.schema
    page_size = 1000


class TapTemplate(Tap):
    """Reads offers and contacts."""

    name = "tap-template"
    config_jsonschema = th.PropertiesList(
        th.Property("api_key", th.StringType(nullable=False), required=True, secret=True),
        th.Property("api_url", th.StringType(nullable=False), required=True),
    ).to_dict()

    def discover_streams(self) -> Sequence[Stream]:
        """Return the streams."""
        return [OffersStream(self), ContactsStream(self)]


if __name__ == "__main__":
    TapTemplate.cli()
