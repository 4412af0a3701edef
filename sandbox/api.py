"""The HTTP API of the sandbox account, as the vendor documents it."""

from __future__ import annotations

import time
from typing import Any

import simplejson
from flask import Flask, request
from flask.json.provider import JSONProvider
from werkzeug.exceptions import HTTPException

from sandbox.account import Account
from sandbox.listings import ENDPOINTS, QueryError, answer

API_KEY = "trk_sandbox0sandbox0sandbox0sandbox0"


class _ExactJSON(JSONProvider):
    """JSON with decimals, so that amounts keep every digit."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return str(simplejson.dumps(obj, use_decimal=True, allow_nan=True, **kwargs))

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return simplejson.loads(s, use_decimal=True, **kwargs)


class _ExactFlask(Flask):
    json_provider_class = _ExactJSON


def create_app(account: Account, latency: float = 0.0) -> Flask:
    """Return the API of an account.

    Args:
        account: The account to serve.
        latency: The delay of each response, in seconds.
    """
    app = _ExactFlask(__name__)

    @app.before_request
    def check_key() -> tuple[dict[str, str], int] | None:
        time.sleep(latency)
        key = request.headers.get("X-Api-Key")
        if not key:
            return _error(401, "missing_api_key", "API key is missing.")
        if key != API_KEY:
            return _error(401, "invalid_api_key", "API key is invalid.")
        return None

    @app.errorhandler(HTTPException)
    def say_in_json(error: HTTPException) -> tuple[dict[str, str], int]:
        code = "not_found" if error.code == 404 else "validation_error"
        return _error(error.code or 500, code, error.description or "")

    @app.errorhandler(QueryError)
    def refuse(error: QueryError) -> tuple[dict[str, str], int]:
        return _error(400, "validation_error", str(error))

    @app.get(f"/api/v2/<any({','.join(ENDPOINTS)}):kind>")
    def list_records(kind: str) -> Any:
        return answer(kind, account.records(kind), request.args)

    _add_changes(app, account)
    return app


def _add_changes(app: Flask, account: Account) -> None:
    @app.post("/api/v2/offers")
    def create_offer() -> Any:
        fields = request.get_json()
        if not isinstance(fields, dict) or not fields.get("name"):
            return _error(400, "validation_error", "name is required.")
        return account.create(fields), 201

    @app.put("/api/v2/offers/<offer_id>")
    def update_offer(offer_id: str) -> Any:
        if offer_id not in account.offers:
            return _error(404, "not_found", "Offer not found.")
        return account.update(offer_id, request.get_json())

    @app.delete("/api/v2/offers/<offer_id>")
    def delete_offer(offer_id: str) -> Any:
        if offer_id not in account.offers:
            return _error(404, "not_found", "Offer not found.")
        return account.archive(offer_id)


def _error(status: int, code: str, text: str) -> tuple[dict[str, str], int]:
    return {"error": text, "code": code}, status
