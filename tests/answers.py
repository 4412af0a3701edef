"""Responses that differ from the documented ones: what a server may do, and how a run must end.

A change is a small function that turns the documented response into another one. Each variation is named by
what the server does.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from email.utils import format_datetime
from functools import partial
from typing import Any

from sandbox.samples import Record
from tests.varied_trackly import Change, Exchange, Variation

COMPLETE, INCOMPLETE, FAILED = (frozenset({outcome}) for outcome in ("complete", "incomplete", "failed"))
CLOCK_BEHIND = timedelta(minutes=10)
many_offers = partial(Variation, offers=450)
many_contacts = partial(Variation, offers=0, archived=0, contacts=2500)


def after_last(change: Change) -> Change:
    """Change only the responses to requests for a page after the last one."""
    return lambda exchange: exchange.page > exchange.last_page and change(exchange)


def if_empty(change: Change) -> Change:
    """Change only the first page of a listing without records."""
    return lambda exchange: exchange.page == 1 and not exchange.rows and change(exchange)


def on_page(number: int, change: Change) -> Change:
    """Change only one page of the default listing, or of contacts."""
    return lambda exchange: exchange.page == number and exchange.request.status is None and change(exchange)


def once(change: Change) -> Change:
    """Change only the response to the first request for a page."""
    return lambda exchange: exchange.earlier == 0 and change(exchange)


def if_archived(change: Change) -> Change:
    """Change only the listing with the filter `status=archived`."""
    return lambda exchange: exchange.request.status == "archived" and change(exchange)


def unless_largest(change: Change) -> Change:
    """Change only pages that are smaller than the largest ones of contacts."""
    return lambda exchange: exchange.size < 1000 and change(exchange)


def unchanged(_: Exchange) -> None:
    """Respond as documented."""


def refuse(status: int, code: str = "validation_error") -> Change:
    """Respond with an error."""
    return lambda exchange: exchange.refuse(status, code)


def no_content(exchange: Exchange) -> None:
    exchange.status, exchange.body = 204, None


def html(exchange: Exchange) -> None:
    exchange.body, exchange.headers["Content_Type"] = "<html>Please wait</html>", "text/html"


def error_body(exchange: Exchange) -> None:
    exchange.body = {"error": "Something went wrong.", "code": "server_error"}


def empty_object(exchange: Exchange) -> None:
    exchange.body = {}


def half_of_the_text(exchange: Exchange) -> None:
    exchange.encode = lambda text: text[: len(text) // 2].encode()


def field(**fields: Any) -> Change:
    """Set fields of the response."""
    return lambda exchange: exchange.body.update(fields)


def without(*names: str) -> Change:
    """Leave out fields of the response."""

    def change(exchange: Exchange) -> None:
        for name in names:
            exchange.body.pop(name, None)

    return change


def hints(**values: Any) -> Change:
    """Set fields of `pagination`; a function is called with the documented value."""

    def change(exchange: Exchange) -> None:
        if "pagination" in exchange.body:
            for name, value in values.items():
                exchange.hints[name] = value(exchange.hints[name]) if callable(value) else value

    return change


def without_hints(*names: str) -> Change:
    """Leave out fields of `pagination`."""

    def change(exchange: Exchange) -> None:
        for name in names:
            exchange.hints.pop(name)

    return change


def every_hint(form: Callable[[int], Any]) -> Change:
    """Send all numbers in `pagination` in another form."""
    return hints(page=form, per_page=form, total=form, total_pages=form)


def all_of(*changes: Change) -> Change:
    """Make several changes."""
    return lambda exchange: [change(exchange) for change in changes]


def rows(change: Callable[[list[Record]], Any]) -> Change:
    """Change the records of the response."""

    def change_rows(exchange: Exchange) -> None:
        exchange.rows = change(exchange.rows)

    return change_rows


def no_rows(exchange: Exchange) -> None:
    exchange.rows = []


def null_rows(exchange: Exchange) -> None:
    exchange.rows = None


def half_of_the_rows(exchange: Exchange) -> None:
    exchange.rows = exchange.rows[: len(exchange.rows) // 2]


def page_again(number: int | None = None, *, as_requested: bool) -> Change:
    """Respond with the page of another number, or the last one; under its own number, or the requested one."""

    def change(exchange: Exchange) -> None:
        exchange.body = exchange.documented(page=number or exchange.last_page)
        if as_requested:
            exchange.hints["page"] = exchange.page

    return change


def page_before(exchange: Exchange) -> None:
    """Respond with the records of the page before, under the requested number."""
    exchange.rows = exchange.documented(page=exchange.page - 1)[exchange.stream]


def of_size(size: int) -> Change:
    """Respond with a smaller page, and say so."""

    def change(exchange: Exchange) -> None:
        exchange.body = exchange.documented(per_page=min(size, exchange.size))

    return change


def of_unsaid_size(size: int) -> Change:
    """Respond with smaller pages, and don't say so."""

    def change(exchange: Exchange) -> None:
        said = exchange.hints["per_page"]
        of_size(size)(exchange)
        exchange.hints["per_page"] = said

    return change


def count_all_statuses(exchange: Exchange) -> None:
    exchange.hints["total"] = len(exchange.account.offers)


def count_at_most(most: int) -> Change:
    """Announce at most so many records, and the pages that they take."""

    def change(exchange: Exchange) -> None:
        exchange.hints["total"] = min(most, exchange.hints["total"])
        exchange.hints["total_pages"] = -(-exchange.hints["total"] // exchange.size)

    return change


def filter_ignored(exchange: Exchange) -> None:
    """Respond as if the request had no filter."""
    query = {name: value for name, value in exchange.request.query.items() if name != "status"}
    exchange.request = replace(exchange.request, query=query)
    exchange.renew()


def archived_by_default(exchange: Exchange) -> None:
    """Include archived offers in the default listing."""
    if exchange.request.status is None:
        offers = list(exchange.account.offers.values())
        exchange.rows = offers[(exchange.page - 1) * exchange.size : exchange.page * exchange.size]
        exchange.hints.update(total=len(offers), total_pages=-(-len(offers) // exchange.size))


def replica_behind(exchange: Exchange) -> None:
    """Answer every second request from a server without the latest five offers, which are listed first."""
    offers = exchange.account.listed(exchange.request.status)[::-1]
    listed = offers[5 * (exchange.request.number % 2) :]
    exchange.rows = listed[(exchange.page - 1) * exchange.size : exchange.page * exchange.size]
    exchange.hints.update(total=len(listed), total_pages=-(-len(listed) // exchange.size))


def one_offer(**fields: Any) -> Change:
    """Change the fields of one offer, the 20th of the default listing."""

    def change(exchange: Exchange) -> None:
        name = list(exchange.account.offers)[19]
        exchange.rows = [{**row, **fields} if row["id"] == name else row for row in exchange.rows]

    return change


def one_byte_not_utf8(exchange: Exchange) -> None:
    exchange.encode = lambda text: text.encode().replace(b"Offer 20:", b"Offer \xff20:")


def byte_order_mark(exchange: Exchange) -> None:
    exchange.encode = lambda text: text.encode("utf-8-sig")


def times_of_jsonify(exchange: Exchange) -> None:
    """Send times as Flask's jsonify does, such as Wed, 01 Jan 2025 00:00:00 GMT."""
    for row in exchange.rows:
        for name in ("created_at", "updated_at"):
            time = datetime.fromisoformat(row[name].replace("Z", "+00:00"))
            row[name] = format_datetime(time, usegmt=True)


def clock_behind(exchange: Exchange) -> None:
    exchange.headers["Date"] = format_datetime(datetime.now(timezone.utc) - CLOCK_BEHIND, usegmt=True)


def tied(exchange: Exchange, *, seed: str = "") -> None:
    """Sort by a time that a third of the offers share: their order depends on the page and its size."""
    offers = exchange.account.listed(exchange.request.status)
    start, end = len(offers) // 3, len(offers) * 2 // 3
    order = random.Random(f"{exchange.page} {exchange.size} {seed}")  # noqa: S311 - repeatable
    listed = [*offers[:start], *order.sample(offers[start:end], end - start), *offers[end:]]
    exchange.rows = listed[(exchange.page - 1) * exchange.size : exchange.page * exchange.size]


def boundary_rows_twice(exchange: Exchange) -> None:
    """Begin each page after the first with the last three records of the page before, in place of its own."""
    if 1 < exchange.page <= exchange.last_page:
        exchange.rows = [*exchange.documented(page=exchange.page - 1)[exchange.stream][-3:], *exchange.rows[3:]]


def second_signup_during_retry(exchange: Exchange) -> None:
    """Fail once for page 2; before it is requested again, the contact in place 2,200 signs up again."""
    if exchange.page == 2 and exchange.earlier == 0:
        exchange.refuse(500, "server_error")
    elif exchange.page == 2 and exchange.earlier == 1:
        contacts = exchange.account.contacts
        contacts.insert(0, {**contacts.pop(2199), "signup_date": "2025-12-16T00:00:00"})
        exchange.renew()


def moved_before_page_3(exchange: Exchange) -> None:
    """Before page 3 is sent, a contact is removed from the first page, and one comes in with an older date."""
    if exchange.page == 3 and exchange.earlier == 0:
        contacts = exchange.account.contacts
        contacts.append({**contacts.pop(10), "phone_number": "+19995550100"})
        exchange.renew()


AFTER_LAST: dict[str, Change] = {
    "an empty array": unchanged,
    "an empty array, with `total` 0": all_of(no_rows, hints(total=0, total_pages=0)),
    "`null`": null_rows,
    "an empty array without `pagination`": without("pagination"),
    "an empty object": empty_object,
    "a 204": no_content,
    "a 400": refuse(400),
    "a 404": refuse(404, "not_found"),
    "a 422": refuse(422),
    "a 500": refuse(500, "server_error"),
    "the last page again, under its own number": page_again(as_requested=False),
    "the last page again, under the requested number": page_again(as_requested=True),
    "the first page again, under its own number": page_again(1, as_requested=False),
    "the first page again, under the requested number": page_again(1, as_requested=True),
}
EMPTY: dict[str, Change] = {
    "`[]`": unchanged,
    "`null`": null_rows,
    "`null` without `pagination`": all_of(null_rows, without("pagination")),
    "`[]` without `pagination`": without("pagination"),
    "`[]` with `pagination` null": field(pagination=None),
    "`[]` with `page` 0": hints(page=0),
    "`[]` with `per_page` 0": hints(per_page=0),
    "`[]` with `total_pages` 1": hints(total_pages=1),
    "`[]` with all counts null": every_hint(lambda _: None),
    "a 204": no_content,
}
NUMBERS: dict[str, Change] = {
    "All numbers in `pagination` are text": every_hint(str),
    "All numbers in `pagination` are like `4.0`": every_hint(float),
    "`per_page` is missing": without_hints("per_page"),
    "`total_pages` is missing": without_hints("total_pages"),
    "`total_pages` is null": hints(total_pages=None),
    "`page` is not echoed": without_hints("page"),
    "`page` and `per_page` are not echoed": without_hints("page", "per_page"),
}
OPEN: dict[str, Variation] = {
    **{
        f"The page after the last is {form} (200 offers)": Variation(after_last(change), offers=200)
        for form, change in AFTER_LAST.items()
    },
    "The page after the last is a 404 (100 offers, 100 archived)": Variation(
        after_last(refuse(404, "not_found")), offers=100, archived=100
    ),
    "The page after the last is a 404 (150 offers, 10 archived)": Variation(after_last(refuse(404, "not_found"))),
    **{
        f"A listing without offers is {form} (none archived)": Variation(if_empty(change), archived=0)
        for form, change in EMPTY.items()
    },
    "A listing without offers is `null` (no offers at all)": Variation(if_empty(null_rows), offers=0, archived=0),
    **{name: Variation(change) for name, change in NUMBERS.items()},
    "`per_page` is capped at 50, and 50 is echoed": Variation(of_size(50), page_size=50),
    "`per_page` is capped at 50, and 50 is echoed (100 offers)": Variation(of_size(50), offers=100, page_size=50),
    "The page of contacts after the last is a 404 (2,000 contacts)": many_contacts(
        after_last(refuse(404, "not_found")), contacts=2000
    ),
    "There is a field `error`, which is null": Variation(field(error=None)),
    "There are more fields in the response": Variation(field(success=True, message="OK", links={"next": None})),
    "`Content-Type` is `text/html`": Variation(
        lambda exchange: exchange.headers.update(Content_Type="text/html; charset=utf-8")
    ),
    "Times are like `Wed, 01 Jan 2025 00:00:00 GMT`": Variation(times_of_jsonify),
    "The server's clock is 10 minutes behind": Variation(clock_behind),
    "`status=archived` is answered with an empty listing": Variation(
        if_archived(all_of(no_rows, hints(total=0, total_pages=0))), hidden="archived"
    ),
}
"""What the vendor's page leaves open: a normal run."""

CONTRADICTIONS: dict[str, Variation] = {
    "`pagination` is missing": Variation(without("pagination")),
    "`total` is missing": Variation(without_hints("total")),
    "`total` is -1": Variation(hints(total=-1)),
    "`total` and `total_pages` are missing": Variation(without_hints("total", "total_pages")),
    "`total` is missing, and the page after the last is a 404": Variation(
        all_of(after_last(refuse(404, "not_found")), lambda each: each.status == 200 and each.hints.pop("total")),
        offers=200,
    ),
    "`total` counts all statuses": Variation(count_all_statuses, outcomes=INCOMPLETE),
    "`total` is one more": Variation(hints(total=lambda count: count + 1), outcomes=INCOMPLETE),
    "`total` is one less": Variation(hints(total=lambda count: count - 1), outcomes=COMPLETE | INCOMPLETE),
    "`total` is at most 100 (350 offers)": Variation(count_at_most(100), offers=350, outcomes=COMPLETE | INCOMPLETE),
    "`total` is the number of offers on the page": many_offers(
        lambda exchange: exchange.hints.update(total=len(exchange.rows), total_pages=1),
        outcomes=COMPLETE | INCOMPLETE,
    ),
    "`total_pages` is one more": Variation(hints(total_pages=lambda count: count + 1)),
    "`total_pages` is one less": Variation(hints(total_pages=lambda count: count - 1)),
    "`total_pages` is 0": Variation(hints(total_pages=0)),
    "`per_page` is capped at 50, and 100 is echoed": Variation(of_unsaid_size(50), outcomes=COMPLETE | INCOMPLETE),
    "`per_page` is capped at 50, and not echoed": Variation(
        all_of(of_size(50), without_hints("per_page")), outcomes=COMPLETE | INCOMPLETE
    ),
    "`page` is echoed from 0": Variation(hints(page=lambda number: number - 1), outcomes=COMPLETE | INCOMPLETE),
    "`page` is always 1": Variation(hints(page=1), outcomes=COMPLETE | INCOMPLETE),
    "Three offers are taken out of a page after it was cut": Variation(
        on_page(1, rows(lambda found: found[:40] + found[43:])), outcomes=INCOMPLETE
    ),
    "Page 2 has 50 offers, and says so": many_offers(on_page(2, of_size(50)), outcomes=INCOMPLETE),
    "Page 2 is always page 1, under its own number": many_offers(
        on_page(2, page_again(1, as_requested=False)), outcomes=INCOMPLETE
    ),
    "Page 2 has always the offers of page 1": many_offers(on_page(2, page_before), outcomes=INCOMPLETE),
    "Page 2 is always empty": many_offers(on_page(2, no_rows), outcomes=INCOMPLETE),
    "Page 2 is always a 404": many_offers(on_page(2, refuse(404, "not_found")), outcomes=INCOMPLETE),
    # Not a 500, which makes the template's tap wait for half a minute.
    "Page 2 is always a 403": many_offers(on_page(2, refuse(403, "account_suspended")), outcomes=FAILED),
    "Three offers are on two pages, in place of others": many_offers(
        boundary_rows_twice, outcomes=COMPLETE | INCOMPLETE
    ),
    "One offer is on a page twice, in place of another": Variation(
        on_page(1, rows(lambda found: [found[0], *found[:-1]])), outcomes=COMPLETE | INCOMPLETE
    ),
    "The order of offers with the same time depends on the page": many_offers(tied, outcomes=COMPLETE | INCOMPLETE),
    "Every second response is from a server without the latest five offers": many_offers(
        replica_behind, outcomes=COMPLETE | INCOMPLETE
    ),
    "The default listing has archived offers, too": Variation(archived_by_default),
    "`status=archived` is refused with a 400": Variation(if_archived(refuse(400)), outcomes=FAILED),
    "`status=archived` is ignored": Variation(filter_ignored, outcomes=INCOMPLETE),
    "`total` of contacts is one more": many_contacts(hints(total=lambda count: count + 1), outcomes=INCOMPLETE),
    "`total` of contacts is at most 1,000": many_contacts(count_at_most(1000), outcomes=COMPLETE | INCOMPLETE),
    "`per_page` of contacts is capped at 500, and 500 is echoed": many_contacts(
        of_size(500), outcomes=COMPLETE | INCOMPLETE
    ),
    "`total` of contacts is at most 1,000, and a contact is taken out of page 2": many_contacts(
        all_of(count_at_most(1000), on_page(2, rows(lambda found: found[:-1]))), outcomes=COMPLETE | INCOMPLETE
    ),
    "Pages of contacts are a 400 unless they are of the largest size": many_contacts(
        unless_largest(refuse(400)), outcomes=COMPLETE
    ),
    "Pages of contacts are a 403 unless they are of the largest size": many_contacts(
        unless_largest(refuse(403, "forbidden")), outcomes=COMPLETE
    ),
    "Pages have 50 offers and say 100, without `total` and `total_pages`": many_offers(
        all_of(of_unsaid_size(50), without_hints("total", "total_pages")), outcomes=COMPLETE
    ),
    "Pages have 50 offers and say 100, and `total` is at most 200": many_offers(
        all_of(of_unsaid_size(50), count_at_most(200)), outcomes=COMPLETE | INCOMPLETE
    ),
    "Pages of contacts have 500 and say 1,000, and `total` is 500 beside the real `total_pages`": many_contacts(
        all_of(of_unsaid_size(500), hints(total=500, total_pages=5)), outcomes=COMPLETE | INCOMPLETE
    ),
    "One offer has no `id`": Variation(one_offer(id=None), outcomes=FAILED),
    "One byte is not UTF-8": Variation(one_byte_not_utf8),
    "One `payout` is NaN": Variation(one_offer(payout=Decimal("NaN"))),
    "Responses begin with a byte order mark": Variation(byte_order_mark),
    "There is a null among the offers of page 1": Variation(
        on_page(1, rows(lambda found: [*found[:40], None, *found[40:]])), outcomes=COMPLETE | INCOMPLETE
    ),
}
"""What contradicts the vendor's page: complete only where the records prove it."""

ON_PAGE_2: dict[str, Change] = {
    "HTML": html,
    "empty": no_rows,
    "empty, with `total` 0": all_of(no_rows, hints(total=0, total_pages=0)),
    "`null`": null_rows,
    "an empty object": empty_object,
    "a 204": no_content,
    "a 404": refuse(404, "not_found"),
    "a 500": refuse(500, "server_error"),
    "an error with status 200": error_body,
    "half of the text": half_of_the_text,
    "half of the offers": half_of_the_rows,
    "50 offers, and says so": of_size(50),
    "page 1, under its own number": page_again(1, as_requested=False),
    "the offers of page 1": page_before,
    "without its last offer, which `total` doesn't count": all_of(
        rows(lambda found: found[:-1]), hints(total=lambda count: count - 1)
    ),
}
TRANSIENT: dict[str, Variation] = {
    **{f"Page 2 is {form}, once": many_offers(once(on_page(2, change))) for form, change in ON_PAGE_2.items()},
    "The first page is empty, with `total` 0, once": Variation(
        once(on_page(1, all_of(no_rows, hints(total=0, total_pages=0))))
    ),
    "The archived listing is empty, with `total` 0, once": Variation(
        once(if_archived(all_of(no_rows, hints(total=0, total_pages=0))))
    ),
    "`total` is at most 100 in the first response, once": many_offers(once(on_page(1, count_at_most(100)))),
    "`total` is 50 more in the first response, once": Variation(
        once(on_page(1, hints(total=lambda count: count + 50)))
    ),
    "Page 2 of contacts has the rows of page 1, once": many_contacts(once(on_page(2, page_before))),
    "Page 3 of contacts has the rows of page 2, once": many_contacts(once(on_page(3, page_before))),
    "Page 2 of contacts has half of its rows, once": many_contacts(once(on_page(2, half_of_the_rows))),
    "Page 2 of contacts has half of its rows, and `total` is 1,250, once": many_contacts(
        once(on_page(2, all_of(half_of_the_rows, hints(total=1250))))
    ),
    "Page 3 of contacts is without its last row, which `total` doesn't count, once": many_contacts(
        once(on_page(3, all_of(rows(lambda found: found[:-1]), hints(total=lambda count: count - 1))))
    ),
    "`total` is at most 100, and page 2 is a 500, once": many_offers(
        all_of(count_at_most(100), once(on_page(2, refuse(500, "server_error"))))
    ),
    "A contact signs up again while page 2 is retried": many_contacts(second_signup_during_retry),
    "A contact is removed, and one with an older date comes in": many_contacts(moved_before_page_3),
}
"""A fault that happens once: it is repaired."""

VARIATIONS = {**OPEN, **CONTRADICTIONS, **TRANSIENT}
