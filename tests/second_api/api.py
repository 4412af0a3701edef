"""The application, in the idioms of Flask: `paginate()`, `jsonify`, and 404 for a page after the last."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from flask import Flask, Response, abort, jsonify, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import JSON, Index, Numeric, Select, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, registry
from werkzeug.exceptions import HTTPException

API_KEY = "trk_5econd5econd5econd5econd5econd55"
OFFER_STATUSES = ("active", "paused", "archived")


class Base(DeclarativeBase):
    """The base class of the models."""

    registry = registry(type_annotation_map={dict[str, Any]: JSON, Decimal: Numeric(14, 4)})


db = SQLAlchemy(model_class=Base)


class Offer(db.Model):  # type: ignore[name-defined,misc]
    """An offer."""

    __tablename__ = "offers"
    id: Mapped[str] = mapped_column(primary_key=True)
    slug: Mapped[str | None]
    name: Mapped[str]
    tracking_url: Mapped[str]
    external_platform: Mapped[str | None]
    external_id: Mapped[str | None]
    advertiser_id: Mapped[str | None]
    payout: Mapped[Decimal]
    payout_type: Mapped[str]
    filter_bots: Mapped[bool]
    status: Mapped[str]
    # `metadata` is reserved by SQLAlchemy.
    extra: Mapped[dict[str, Any]] = mapped_column("metadata")
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Contact(db.Model):  # type: ignore[name-defined,misc]
    """A subscriber of a list."""

    __tablename__ = "contacts"
    list_id: Mapped[int] = mapped_column(primary_key=True)
    phone_number: Mapped[str] = mapped_column(primary_key=True)
    list_number: Mapped[str]
    active: Mapped[bool]
    signup_date: Mapped[datetime]
    signup_method: Mapped[str]
    custom_fields: Mapped[dict[str, Any]]
    carrier: Mapped[str | None]
    line_type: Mapped[str]
    timezone: Mapped[str | None]
    is_valid: Mapped[bool]
    send_count: Mapped[int]
    click_count: Mapped[int]
    revenue_total: Mapped[Decimal]
    conversion_count: Mapped[int]
    last_sent_at: Mapped[datetime | None]
    last_clicked_at: Mapped[datetime | None]
    in_workflow: Mapped[bool]


INDEXES = (Index("offers_created_at", Offer.created_at), Index("contacts_signup_date", Contact.signup_date))


def create_app() -> Flask:
    """Return the application for the database in the environment variable `DATABASE_URL`."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DATABASE_URL"]
    db.init_app(app)

    @app.before_request
    def check_key() -> None:
        if request.headers.get("X-Api-Key") != API_KEY:
            abort(401, "API key is invalid.")

    @app.errorhandler(HTTPException)
    def say_in_json(error: HTTPException) -> tuple[Response, int]:
        return jsonify(error=error.description, code=error.name.lower().replace(" ", "_")), error.code or 500

    @app.get("/api/v2/offers")
    def list_offers() -> Response:
        query = select(Offer).order_by(Offer.created_at.desc())
        status = request.args.get("status")
        if status is None:
            return _page("offers", query.where(Offer.status != "archived"), 100)
        if status not in OFFER_STATUSES:
            abort(400, "Invalid status.")
        return _page("offers", query.where(Offer.status == status), 100)

    @app.get("/api/v2/contacts")
    def list_contacts() -> Response:
        return _page("contacts", select(Contact).order_by(Contact.signup_date.desc()), 1000)

    return app


def _page(name: str, query: Select[Any], most: int) -> Response:
    found = db.paginate(query, per_page=request.args.get("per_page", 50, int), max_per_page=most)
    return jsonify(
        {
            name: [_fields(row) for row in found.items],
            "pagination": {
                "page": found.page,
                "per_page": found.per_page,
                "total": found.total,
                "total_pages": found.pages,
            },
        }
    )


def _fields(row: Any) -> Mapping[str, Any]:
    return {attribute.columns[0].name: getattr(row, attribute.key) for attribute in inspect(type(row)).column_attrs}
