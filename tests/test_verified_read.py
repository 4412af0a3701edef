"""How listings are read, and when a read is verified."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import pairwise
from typing import Any

import pytest

from tap_trackly.pagination import ListingError, Page, Record, TracklyPaginator, parse_page
from tap_trackly.prefetch import PageSource, Wanted
from tap_trackly.verified_read import MAX_PASSES, Changes, OrderedRead, VerifiedRead
from tests.simulated_account import SimulatedAccount, get_key

OFFERS = (None, "archived")
CHANGING = "the listing kept changing"
NOT_ANNOUNCED = "the number of records is not announced"
ENDLESS = "the listing does not end"

Server = Callable[[Wanted], Page]


class Written:
    """A server of hand-written pages; each letter is the key of a record.

    A page with several versions is answered with the next one each time; an error is raised.

    Args:
        listings: The pages of each listing; those after the last are empty.
        hints: Replace those that are announced by default; None for a hint that is missing.
    """

    def __init__(self, listings: Mapping[str | None, Sequence[Any]], **hints: Any) -> None:
        self.listings = {
            name: [[*each] if isinstance(each, tuple) else [each] for each in pages] for name, pages in listings.items()
        }
        self.hints = hints
        self.asked: list[Wanted] = []

    def __call__(self, wanted: Wanted) -> Page:
        self.asked.append(wanted)
        pages = self.listings[wanted.listing]
        versions = pages[wanted.number - 1] if wanted.number <= len(pages) else [""]
        version = versions.pop(0) if len(versions) > 1 else versions[0]
        if isinstance(version, Exception):
            raise version
        if isinstance(version, Page):
            return version
        total = sum(len(each[-1]) for each in pages if isinstance(each[-1], str))
        hints = {"page": wanted.number, "per_page": 2, "total": total, "total_pages": -(-total // 2), **self.hints}
        status = wanted.listing or "active"
        records = [{"id": key.lower(), "status": status, "capital": key.isupper()} for key in version]
        body = {"records": records, "pagination": {name: hint for name, hint in hints.items() if hint is not None}}
        return parse_page(json.dumps(body).encode(), "records", wanted.number, wanted.size)

    @property
    def numbers(self) -> list[int]:
        return [each.number for each in self.asked]


def default(*pages: Any, **hints: Any) -> Written:
    """Return a server with a default listing only."""
    return Written({None: pages}, **hints)


def run(
    server: Server,
    listings: Sequence[str | None] = (None,),
    size: int = 2,
    kind: type[VerifiedRead] = VerifiedRead,
    workers: int = 1,
    **more: Any,
) -> tuple[VerifiedRead, list[Changes]]:
    """Read listings; return the read and all that it yielded."""
    ahead = 1 if workers == 1 else float("inf")
    more = {"is_old": lambda _: False, **more} if kind is OrderedRead else more
    with closing(PageSource(server, lambda: TracklyPaginator(start_value=1), workers, ahead)) as source:
        read = kind(listings, source, get_key, size, **more)
        return read, [*read]


def keys_of(changes: Sequence[Changes]) -> list[str]:
    return [record["id"] for each in changes for record in each.records]


def keys(account: SimulatedAccount) -> set[str]:
    return {record["id"] for record in account.records}


def at(request: int, change: Callable[[], object]) -> Callable[[int], object]:
    """Return a hook that makes one change before the response to one request."""
    return lambda number: number == request and change()


@pytest.mark.parametrize("pages", [[], ["a"], ["ab"], ["ab", "c"], ["ab", "cd"], ["ab", "cd", "e"]])
def test_quiet_listing(pages: list[str]) -> None:
    server = default(*pages)
    read, changes = run(server)
    assert keys_of(changes) == [*"".join(pages)]
    first = [*range(1, max(1, len(pages)) + 1)]
    after = [len(pages) + 1] if pages and len(pages[-1]) == 2 else []
    assert server.numbers == [*first, *after, *{1: None, first[-1]: None}]
    assert (read.reason, read.passes, read.errors) == ("", 1, [])
    assert read.records == read.announced == len("".join(pages))


def test_listings_are_read_in_order() -> None:
    server = Written({None: ["ab", "c"], "archived": ["d"]})
    read, changes = run(server, OFFERS)
    assert keys_of(changes) == [*"abcd"]
    assert [(each.listing, each.number) for each in server.asked] == [
        (None, 1),
        (None, 2),
        ("archived", 1),
        (None, 1),
        (None, 2),
        ("archived", 1),
    ]
    assert [each.listing for each in changes] == [None, None, "archived", None, None, "archived"]
    assert (read.reason, read.announced, read.pages) == ("", 4, 6)


def test_record_in_two_listings_is_complete() -> None:
    server = Written({"paused": ["ab"], "archived": ["b"]})

    def answer(wanted: Wanted) -> Page:
        response = server(wanted)
        for record in response.records:
            record["status"] = None
        return response

    read, changes = run(answer, ["paused", "archived"])
    assert keys_of(changes) == [*"ab"]
    assert (read.reason, read.passes, read.records, read.announced) == ("", 1, 2, 3)


@pytest.mark.parametrize("after", ["", "cd", "d", Page(3, [], 1, doubt="HTTP 404"), Page(3, [], 2, 0)])
def test_page_after_the_last_is_the_end(after: Any) -> None:
    server = default("ab", "cd", after, total=4, total_pages=2)
    read, changes = run(server)
    assert keys_of(changes) == [*"abcd"]
    assert (read.reason, read.passes) == ("", 1)


def test_pages_after_a_capped_count_are_read() -> None:
    read, changes = run(default("ab", "cd", "e", total=4, total_pages=2))
    assert sorted({*keys_of(changes)}) == [*"abcde"]
    assert (read.reason, read.passes, read.records, read.announced) == ("", 2, 5, 4)


def test_capped_count_needs_two_equal_passes() -> None:
    read, changes = run(default("ab", "cd", ("e", "f"), total=4))
    assert sorted(keys_of(changes)) == [*"abcdef"]
    assert (read.reason, read.passes) == ("", 3)


def test_empty_page_is_the_end() -> None:
    server = default("ab", "", total=None, total_pages=None, per_page=None)
    assert run(server, size=60)[0].reason == ""
    assert server.numbers == [1, 2, 1, 2, 1]


def test_empty_page_before_the_last() -> None:
    read, changes = run(default("ab", "", "cd", total=6, total_pages=3))
    assert keys_of(changes) == [*"abcd"]
    assert read.reason == "4 records read, 6 announced"


def test_total_of_all_statuses_is_incomplete() -> None:
    server = default("ab", "c", total=9, total_pages=5)
    read, changes = run(server)
    assert keys_of(changes) == [*"abc"]
    assert (read.reason, read.passes) == ("3 records read, 9 announced", 2)


def test_fewer_than_announced_is_incomplete() -> None:
    read, changes = run(default("ab", "bc", total=4))
    assert keys_of(changes) == [*"abc"]
    assert (read.reason, read.passes, read.records, read.announced) == ("3 records read, 4 announced", 2, 3, 4)


def test_keys_of_all_passes_count_together() -> None:
    read, changes = run(default("ab", ("bc", "ad"), total=4))
    assert sorted(keys_of(changes)) == [*"abcd"]
    assert (read.reason, read.passes) == ("", 2)


def test_keys_of_another_total_do_not_count() -> None:
    server = default("ab", "bc")
    server.hints["total"] = 3
    totals = iter([4, 4, 4, 5, 5])
    hints = server.hints

    def answer(wanted: Wanted) -> Page:
        hints["total"] = next(totals, 4)
        return server(wanted)

    assert run(answer)[0].reason == "3 records read, 4 announced"


def test_keys_that_moved_between_passes_do_not_count() -> None:
    server = Written({None: ["ab", ("bc", "bf")], "archived": [("e", "e", "ce")]})  # and d is never listed
    read, changes = run(server, OFFERS)
    assert sorted({*keys_of(changes)}) == [*"abcef"]
    assert read.reason == "3 records read, 4 announced"


def test_later_passes_ask_for_smaller_pages() -> None:
    server = default("ab", "bc", total=4)
    run(server, size=100)
    assert {each.size for each in server.asked} == {100, 97}


def test_pass_that_cannot_help_is_left_out() -> None:
    assert run(default("ab", "c", total=4))[0].passes == 2
    assert run(default("ab", ("c", "c", "d"), total=5))[0].passes == 3


def test_missing_count_needs_two_equal_passes() -> None:
    server = default("ab", "c", total=None, total_pages=None)
    read, changes = run(server)
    assert keys_of(changes) == [*"abc"]
    assert (read.reason, read.passes, read.announced) == ("", 2, 0)
    read, changes = run(default("ab", ("c", "d", "e"), total=None, total_pages=None))
    assert keys_of(changes) == [*"abcde"]
    assert (read.reason, read.passes) == (NOT_ANNOUNCED, 3)
    read, changes = run(default("ab", ("c", "cd", "cd", "cd"), total=None, total_pages=None))
    assert keys_of(changes) == [*"abcd"]
    assert (read.reason, read.passes) == ("", 3)


def test_page_without_a_new_record_is_no_proof() -> None:
    server = default(*["ab"] * 9, total=None, total_pages=None, page=None)  # the page number is ignored
    read, changes = run(server)
    assert keys_of(changes) == [*"ab"]
    assert read.reason == NOT_ANNOUNCED
    assert max(server.numbers) == 2


def test_ignored_filter_is_incomplete() -> None:
    account = SimulatedAccount(ignores_filter=True).fill(3)
    read, changes = run(account.fetch, OFFERS)
    assert {*keys_of(changes)} == keys(account)
    assert read.reason == "the API ignored the filter status=archived"


def test_page_of_another_size_starts_a_new_pass() -> None:
    account = SimulatedAccount(faults={2: "other size"}).fill(12)
    read, changes = run(account.fetch, size=4)
    assert {*keys_of(changes)} == keys(account)
    assert (read.reason, read.passes) == ("", 2)


def test_pages_always_of_another_size() -> None:
    account = SimulatedAccount(max_size=3).fill(10)
    read, changes = run(account.fetch, size=4)
    assert len(keys_of(changes)) == 10
    assert (read.reason, read.passes) == ("", 1)


def test_changing_size_is_incomplete() -> None:
    account = SimulatedAccount(faults=dict.fromkeys(range(2, 99, 2), "other size")).fill(12)
    assert run(account.fetch, size=4)[0].reason


def test_stale_page_is_incomplete() -> None:
    read, changes = run(default("ab", ("ab", "cd"), "ef"))
    assert sorted(keys_of(changes)) == [*"abcdef"]
    assert (read.reason, read.passes) == ("", 2)


def test_total_that_changes_in_every_pass() -> None:
    account = SimulatedAccount().fill(9)
    account.before_answer = lambda number: number % 3 == 2 and account.create()
    read, changes = run(account.fetch)
    assert (bool(read.reason), read.passes) == (True, MAX_PASSES)
    assert {f"r{number}" for number in range(1, 10)} <= {*keys_of(changes)}


def test_records_that_change_in_every_closing_check() -> None:
    read, changes = run(default((*"abcdef",)))
    assert keys_of(changes) == [*"abcd"]
    assert (read.reason, read.passes) == (NOT_ANNOUNCED, MAX_PASSES)


@pytest.mark.parametrize("request_number", [4, 5])
@pytest.mark.parametrize("place", [0, 4])
def test_closing_check(request_number: int, place: int) -> None:
    account = SimulatedAccount().fill(5)
    before = keys(account)

    def swap() -> None:
        account.records.pop(place)
        account.create(place)

    account.before_answer = at(request_number, swap)
    read, changes = run(account.fetch)
    assert before <= {*keys_of(changes)}
    is_seen = request_number == 4 or place == 4
    assert (read.reason, read.passes) == ("", 3 if is_seen else 1)  # the record that was removed could also be missing


def test_fewer_records_than_in_the_pass_before_are_no_proof() -> None:
    pages = [Page(1, [{"id": key} for key in keys], 5, len(keys), 1) for keys in ("abc", "abd", "a", "abcd")]
    read, changes = run(default((*pages,)), size=5)
    assert {*keys_of(changes)} == {*"abcd"}
    assert (read.reason, read.passes) == ("", MAX_PASSES)


def test_closing_check_yields_changes() -> None:
    account = SimulatedAccount().fill(3)
    account.before_answer = at(4, lambda: account.change(account.records[2]))
    read, changes = run(account.fetch)
    assert [[record["id"] for record in each.records] for each in changes] == [["r3", "r2"], ["r1"], [], ["r1"]]
    assert [each.page.number for each in changes] == [1, 2, 1, 2]
    assert (read.reason, read.passes) == ("", 1)


@pytest.mark.parametrize("request_number", range(1, 12))
@pytest.mark.parametrize("archived", range(6))
@pytest.mark.parametrize("created", [0, 3, 6])
def test_archived_and_created_offer(request_number: int, archived: int, created: int) -> None:
    account = SimulatedAccount().fill(2, "archived").fill(6)
    before = keys(account)

    def swap() -> None:
        account.touch(account.records[archived], status="archived")
        account.create(created)

    account.before_answer = at(request_number, swap)
    read, changes = run(account.fetch, OFFERS)
    assert before <= {*keys_of(changes)}
    assert read.reason == ""


def test_moved_record_starts_a_new_pass() -> None:
    account = SimulatedAccount().fill(2, "archived").fill(10)
    before = keys(account)

    def swap() -> None:  # page 2 was read, page 3 was not, and neither the total nor the first and last page change
        account.touch(account.records[2], status="archived")
        account.create(6)

    account.before_answer = at(3, swap)
    read, changes = run(account.fetch, OFFERS)
    assert before <= {*keys_of(changes)}
    assert (read.reason, read.passes) == ("", 2)


def test_error_of_a_listing() -> None:
    server = Written({None: [ListingError("HTTP 400")], "archived": ["ab", "c"]})
    read, changes = run(server, OFFERS)
    assert keys_of(changes) == [*"abc"]
    assert [str(error) for error in read.errors] == ["HTTP 400"]
    assert (read.passes, server.numbers) == (1, [1, 1, 2])


def test_other_listings_are_read_to_the_end_after_an_error() -> None:
    server = Written({None: [ListingError("HTTP 400")], "paused": [("ab", "ba"), "cd", "e"], "archived": ["f"]})
    totals = iter([5, 6, 6, 6])

    def answer(wanted: Wanted) -> Page:
        server.hints["total"] = next(totals, 1)
        return server(wanted)

    read, changes = run(answer, [None, "paused", "archived"])
    assert keys_of(changes) == [*"abcdef"]
    assert len(read.errors) == 1


def test_records_of_an_earlier_response_are_yielded() -> None:
    page = Page(1, [{"id": "b"}], 2, 1, 1, earlier=[{"id": "a"}, {"id": "b"}])
    assert keys_of(run(default(page))[1]) == [*"ab"]


def test_smaller_page_beside_a_capped_count() -> None:
    account = SimulatedAccount(faults={2: "other size"}, count=lambda total: min(total, 4)).fill(8)
    read, changes = run(account.fetch, size=4)
    assert read.reason or {*keys_of(changes)} == keys(account)


def test_error_in_closing_check() -> None:
    read, changes = run(default(("ab", ListingError("HTTP 500")), "c", total=3))
    assert keys_of(changes) == [*"abc"]
    assert [str(error) for error in read.errors] == ["HTTP 500"]
    assert read.passes == 1


def test_other_errors_are_raised() -> None:
    with pytest.raises(ValueError, match=r"^key$"):
        run(default(ValueError("key")))


def counting(total: Callable[[int], Any], fresh: int, size: int = 1) -> tuple[Server, list[int]]:
    """Return a server without an end, whose pages have new records up to some number, and the numbers asked for."""
    asked: list[int] = []

    def answer(wanted: Wanted) -> Page:
        asked.append(wanted.number)
        start = (min(wanted.number, fresh) - 1) * wanted.size
        records = [{"id": str(start + each)} for each in range(wanted.size)]
        pages = total(wanted.number)
        return Page(wanted.number, records, wanted.size, pages * size, pages, is_full=True)

    return answer, asked


@pytest.mark.parametrize("kind,size", [(VerifiedRead, 1), (OrderedRead, 22)])
@pytest.mark.parametrize("total", [lambda _: 8, lambda number: number + 1])
def test_listing_without_end(kind: type[VerifiedRead], size: int, total: Callable[[int], int]) -> None:
    answer, asked = counting(total, 10**9, size)
    read, _ = run(answer, size=size, kind=kind)
    assert read.reason
    assert 700 < max(asked) < 1600
    assert len(asked) <= 3100


@pytest.mark.parametrize("kind,size", [(VerifiedRead, 1), (OrderedRead, 22)])
def test_page_that_is_repeated_without_end(kind: type[VerifiedRead], size: int) -> None:
    answer, asked = counting(lambda _: 10**12, 5, size)
    read, changes = run(answer, size=size, kind=kind)
    assert read.reason
    assert len({*keys_of(changes)}) >= 5 * size
    assert 900 < max(asked) <= 1300


def test_count_beyond_all_records() -> None:
    account = SimulatedAccount(count=lambda _: 2**31 - 1).fill(250)
    read, changes = run(account.fetch, size=100, kind=OrderedRead)
    assert {*keys_of(changes)} == keys(account)
    assert read.reason == ENDLESS


def nested(levels: int) -> Record:
    value: Any = {}
    for level in range(levels - 2):
        value = [value] if level % 2 else {"a": value}
    return {"id": "c", "value": value}


@pytest.mark.parametrize(
    "record",
    [nested(100), {"id": "c", "text": "\ud800"}, {"id": "c", "number": 2**70}, {"id": "c", "number": float("nan")}],
)
def test_unusual_record(record: Record) -> None:
    pages = [Page(1, [record], 2, 1, 1), Page(1, [{**record, "more": 1}], 2, 1, 1)]
    read, changes = run(default(tuple(pages)))
    assert [len(each.records) for each in changes] == [1, 1]
    assert read.reason == ""
    assert [len(each.records) for each in run(default(pages[0]))[1]] == [1, 0]


# Contacts: a stable order, new ones first.


def contacts(account: SimulatedAccount, size: int = 22, **more: Any) -> tuple[VerifiedRead, set[str]]:
    read, changes = run(account.fetch, size=size, kind=OrderedRead, **more)
    return read, {*keys_of(changes)}


def windows(account: SimulatedAccount) -> list[tuple[int, int]]:
    """Return the places that each request asked for."""
    return [((each.number - 1) * each.size, each.number * each.size) for each in account.asked]


@pytest.mark.parametrize("size", [22, 23, 25, 30, 50, 97, 100])
def test_pages_overlap(size: int) -> None:
    account = SimulatedAccount().fill(3000)
    read, found = contacts(account, size)
    assert (found, read.reason, read.passes) == (keys(account), "", 1)
    asked = windows(account)
    assert all(start < before < end or start == 0 for (_, before), (start, end) in pairwise(asked))
    assert len(asked) <= (1.25 if size >= 97 else 1.5) * 3000 / size


@pytest.mark.parametrize("count", [0, 1, 21, 22, 23, 44, 63, 100, 101])
def test_quiet_contacts(count: int) -> None:
    account = SimulatedAccount().fill(count)
    read, found = contacts(account)
    assert found == keys(account)
    assert (read.reason, read.passes, read.records, read.announced) == ("", 1, count, count)
    assert account.requests <= count / 22 * 1.25 + 3


def test_small_pages_do_not_overlap() -> None:
    account = SimulatedAccount().fill(50)
    read, found = contacts(account, 21)
    assert (found, read.reason) == (keys(account), "")
    assert {each.size for each in account.asked} == {21}


def test_signups_need_no_extra_requests() -> None:
    quiet, busy = SimulatedAccount().fill(200), SimulatedAccount().fill(200)
    contacts(quiet)
    before = keys(busy)
    busy.before_answer = lambda number: number in {2, 4, 5} and busy.create()
    read, found = contacts(busy)
    assert before < found == keys(busy)
    assert (read.reason, read.passes) == ("", 1)
    assert busy.requests <= quiet.requests + 1


@pytest.mark.parametrize("count,passes", [(2, 1), (60, 1)])
def test_removals_go_back(count: int, passes: int) -> None:
    account = SimulatedAccount().fill(200)

    def remove() -> None:
        del account.records[22 : 22 + count]

    account.before_answer = at(6, remove)
    read, found = contacts(account)
    assert keys(account) <= found
    assert (read.reason, read.passes) == ("", passes)
    starts = [start for start, _ in windows(account)]
    assert starts[6] == starts[4]
    assert starts[7:9] == ([starts[5], 105] if count == 2 else [starts[3], starts[2]])


def test_constant_removals_are_incomplete() -> None:
    account = SimulatedAccount().fill(2000)

    def remove(_: int) -> None:
        del account.records[:2]

    account.before_answer = remove
    read, _ = contacts(account)
    assert read.reason == CHANGING
    assert account.requests <= 3 * 300


def test_second_signup_is_found_at_the_front() -> None:
    account = SimulatedAccount().fill(200)
    moved = account.records[150]
    account.before_answer = at(4, lambda: account.sign_up(account.now, moved))
    read, found = contacts(account)
    assert moved["id"] in found
    assert (found, read.reason, read.passes) == (keys(account), "", 1)


def test_more_signups_than_a_page_at_the_end() -> None:
    quiet, account = SimulatedAccount().fill(100), SimulatedAccount().fill(100)
    contacts(quiet)
    account.before_answer = at(quiet.requests, lambda: account.fill(70))
    read, found = contacts(account)
    assert (found, read.reason, read.passes) == (keys(account), "", 2)


def test_first_page_that_was_empty_once() -> None:
    account = SimulatedAccount().fill(200)

    def fetch(wanted: Wanted) -> Page:
        if account.requests == 0:
            account.asked.append(wanted)
            return parse_page(b'{"records": []}', "records", 1, wanted.size)
        return account.fetch(wanted)

    read, changes = run(fetch, size=22, kind=OrderedRead)
    assert {*keys_of(changes)} == keys(account)
    assert (read.reason, read.passes) == ("", 2)


def test_first_page_that_was_removed() -> None:
    account = SimulatedAccount().fill(100)

    def remove() -> None:
        del account.records[:22]

    account.before_answer = at(6, remove)
    read, found = contacts(account)
    assert keys(account) <= found
    assert (read.reason, read.passes) == ("", 3)


def test_stale_page_of_contacts() -> None:
    account = SimulatedAccount(faults={4: "stale"}).fill(200)
    read, found = contacts(account)
    assert (found, read.reason) == (keys(account), "")


def test_contacts_of_another_size_are_read_in_plain_pages() -> None:
    account = SimulatedAccount(max_size=10).fill(55)
    read, found = contacts(account)
    assert (found, read.reason, read.records) == (keys(account), "", 55)


def test_one_page_of_another_size() -> None:
    account = SimulatedAccount(faults={40: "other size"}).fill(1000)
    read, found = contacts(account)
    assert (found, read.reason, read.records) == (keys(account), "", 1000)


def test_page_size_that_is_not_echoed() -> None:
    account = SimulatedAccount().fill(100)

    def fetch(wanted: Wanted) -> Page:
        account.asked.append(wanted)
        shown = account.records[(wanted.number - 1) * 10 : wanted.number * 10]
        hints = {"page": wanted.number, "per_page": wanted.size, "total": 100, "total_pages": -(-100 // wanted.size)}
        body = json.dumps({"records": shown, "pagination": hints}).encode()
        return parse_page(body, "records", wanted.number, wanted.size)

    for kind in (VerifiedRead, OrderedRead):
        read, changes = run(fetch, size=22, kind=kind)
        assert {*keys_of(changes)} == keys(account)
        assert read.reason == ""


def test_more_than_a_thousand_pages_of_contacts() -> None:
    account = SimulatedAccount().fill(24_000)
    read, found = contacts(account)
    assert (found, read.reason, read.passes) == (keys(account), "", 1)
    assert read.pages > 1000


def test_many_returns_to_an_earlier_page() -> None:
    account = SimulatedAccount().fill(2000)
    before = keys(account)

    def remove(number: int) -> None:
        if number % 4 == 0 and number < 100:
            del account.records[30:33]

    account.before_answer = remove
    read, found = contacts(account)
    assert keys(account) <= found <= before
    assert (read.reason, read.passes) == ("", 1)


def test_fewer_contacts_than_announced() -> None:
    account = SimulatedAccount(count=lambda total: total + 1).fill(100)
    read, found = contacts(account)
    assert found == keys(account)
    assert (read.reason, read.passes) == ("100 records read, 101 announced", 3)


def test_removed_contact_that_was_not_read() -> None:
    account = SimulatedAccount().fill(100)
    account.before_answer = at(3, account.records.pop)
    read, found = contacts(account)
    assert (found, read.reason, read.passes) == (keys(account), "", 2)


def test_contacts_with_capped_count() -> None:
    account = SimulatedAccount(count=lambda total: min(total, 60)).fill(150)
    read, found = contacts(account)
    assert (found, read.reason, read.passes) == (keys(account), "", 2)


def test_contacts_without_a_count() -> None:
    account = SimulatedAccount(count=lambda _: None).fill(150)
    read, found = contacts(account)
    assert (found, read.reason, read.passes) == (keys(account), "", 3)


def test_contacts_that_are_taken_out_of_their_page() -> None:
    account = SimulatedAccount().fill(200)
    hidden = account.records[50]

    def fetch(wanted: Wanted) -> Page:
        response = account.fetch(wanted)
        response.records[:] = [each for each in response.records if each != hidden]
        return response

    read, changes = run(fetch, size=22, kind=OrderedRead)
    assert {*keys_of(changes)} == keys(account) - {hidden["id"]}
    assert read.reason == "199 records read, 200 announced"


def test_equal_numbers_of_other_contacts_are_no_proof() -> None:
    account = SimulatedAccount(count=lambda _: None).fill(10)
    hidden = account.records[5:8]

    def fetch(wanted: Wanted) -> Page:
        response = account.fetch(wanted)
        missed = hidden[2 if wanted.size < 22 else account.requests > 2]  # another one in each pass
        response.records[:] = [each for each in response.records if each != missed]
        return response

    read, changes = run(fetch, size=22, kind=OrderedRead)
    assert {*keys_of(changes)} == keys(account)
    assert read.reason == NOT_ANNOUNCED


def test_refused_sizes_of_contacts() -> None:
    account = SimulatedAccount().fill(200)

    def fetch(wanted: Wanted) -> Page:
        return account.fetch(wanted) if wanted.size == 22 else Page(wanted.number, [], 1)

    read, changes = run(fetch, size=22, kind=OrderedRead)
    assert {*keys_of(changes)} == keys(account)
    assert (read.reason, read.passes, read.errors) == ("", 2, [])


def test_error_on_an_overlapping_page_of_contacts() -> None:
    account = SimulatedAccount().fill(200)

    def fetch(wanted: Wanted) -> Page:
        if wanted.size != 22:
            raise ListingError("HTTP 403")
        return account.fetch(wanted)

    read, changes = run(fetch, size=22, kind=OrderedRead)
    assert {*keys_of(changes)} == keys(account)
    assert (read.reason, read.passes, read.errors) == ("", 2, [])


def test_first_page_alone_is_no_proof_without_a_count() -> None:
    account = SimulatedAccount(count=lambda _: None).fill(100)
    failures = [2, 2]

    def fetch(wanted: Wanted) -> Page:
        if wanted.number in failures:
            failures.remove(wanted.number)
            return Page(wanted.number, [], 22)
        return account.fetch(wanted)

    read, changes = run(fetch, size=22, kind=OrderedRead)
    assert read.reason or {*keys_of(changes)} == keys(account)


def test_contacts_that_cannot_be_read() -> None:
    def fetch(_: Wanted) -> Page:
        raise ListingError("HTTP 403")

    read, _ = run(fetch, size=22, kind=OrderedRead)
    assert [str(error) for error in read.errors] == ["HTTP 403"]
    assert read.passes == 1


def tied(count: int) -> SimulatedAccount:
    """Return an account whose contacts share one signup date, so that their order is arbitrary."""
    account = SimulatedAccount(ties=random.Random(1)).fill(count)  # noqa: S311
    for record in account.records:
        record["time"] = "2026-01-01"
    return account


def test_ties_are_incomplete() -> None:
    account = tied(200)
    read, found = contacts(account)
    assert read.reason.endswith("records read, 200 announced")
    assert read.passes == MAX_PASSES
    assert len(found) == read.records


def test_ties_beside_a_signup_are_incomplete() -> None:
    account = tied(30)
    account.before_answer = lambda number: number % 2 and account.create()
    read, _ = contacts(account)
    assert "announced" in read.reason


def test_ties_with_a_capped_count_are_incomplete() -> None:
    account = tied(100)
    account.count = lambda _: 40
    assert contacts(account)[0].reason == "the number of records is not announced"


def test_ties_that_hide_nothing() -> None:
    account = tied(23)
    for seed in range(20):
        account.ties = random.Random(seed)  # noqa: S311
        read, found = contacts(account)
        assert found == keys(account)
        assert read.reason == "" or read.reason.endswith("records read, 23 announced")


def is_old(record: Record) -> bool:
    """Return whether a contact is one of the first hundred."""
    return int(record["id"][1:]) <= 100


def test_new_contacts_are_read_until_a_page_of_old_ones() -> None:
    account = SimulatedAccount().fill(1000)
    read, found = contacts(account, is_old=lambda record: int(record["id"][1:]) <= 970)
    assert {f"r{number}" for number in range(971, 1001)} <= found
    assert (read.reason, read.passes, account.requests) == ("", 1, 4)


def test_old_contacts_are_not_counted() -> None:
    account = SimulatedAccount(count=lambda total: total + 9).fill(300)
    assert contacts(account, is_old=is_old)[0].reason == ""
    assert contacts(account)[0].reason == "300 records read, 309 announced"


def test_ties_of_new_contacts_are_incomplete() -> None:
    account = tied(300)
    read, _ = contacts(account, is_old=is_old)
    assert read.reason


def test_other_contacts_are_forgotten() -> None:
    account = SimulatedAccount().fill(2000)
    moved = account.records[100]

    def change(number: int) -> None:
        if number == 60:
            account.records.remove(moved)
            account.records.insert(1900, moved)

    account.before_answer = change
    _, changes = run(account.fetch, size=22, kind=OrderedRead)
    assert Counter(keys_of(changes)).most_common(2)[0] == (moved["id"], 2)


def read_ahead(
    change: Callable[[SimulatedAccount, int], object], workers: int
) -> tuple[SimulatedAccount, VerifiedRead, set[str]]:
    """Read 6,000 contacts with prefetching; also return the keys of remaining contacts that were missed."""
    choice, lock = random.Random(0), threading.Lock()  # noqa: S311
    account = SimulatedAccount().fill(6000)
    before = keys(account)
    account.before_answer = lambda number: change(account, number)

    def fetch(wanted: Wanted) -> Page:
        time.sleep(choice.random() / 1000)  # so that responses come out of order
        with lock:
            return account.fetch(wanted)

    read, changes = run(fetch, size=50, kind=OrderedRead, workers=workers)
    return account, read, (before & keys(account)) - {*keys_of(changes)}


WORKERS = [1, 8]


@pytest.mark.parametrize("workers", WORKERS)
def test_requests_without_changes(workers: int) -> None:
    account, read, missed = read_ahead(lambda *_: None, workers)
    assert (read.reason, missed) == ("", set())
    assert account.requests <= 1.3 * 120


@pytest.mark.parametrize("workers", WORKERS)
def test_requests_with_signups(workers: int) -> None:
    account, read, missed = read_ahead(lambda account, number: number % 5 == 0 and account.create(), workers)
    assert (read.reason, read.passes, missed) == ("", 1, set())
    assert account.requests <= 2 * 120


@pytest.mark.parametrize("workers", WORKERS)
def test_requests_with_removals(workers: int) -> None:
    account, read, missed = read_ahead(lambda account, number: number % 12 == 0 and account.records.pop(0), workers)
    assert (read.reason, missed) == ("", set())
    assert account.requests <= 2 * 120
