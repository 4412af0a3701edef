"""How listings are read, and when a read is verified."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any

import pytest

from tap_trackly.pagination import Page, Record
from tap_trackly.prefetch import AHEAD_PER_WORKER, Prefetch
from tap_trackly.verified_read import (
    MAX_PASSES,
    Listing,
    RecordError,
    VerifiedRead,
)
from tests.simulated_account import (
    ARCHIVED,
    CONTACTS,
    DEFAULT,
    Fetcher,
    OneByOne,
    SimulatedAccount,
    SimulatedSource,
    Wanted,
    get_key,
)

OFFERS = [DEFAULT, ARCHIVED]


def read_of(
    account: SimulatedAccount, *listings: Listing, fetcher: Fetcher | None = None, remembered_pages: int = 32
) -> VerifiedRead:
    source = SimulatedSource(listings, fetcher or OneByOne(account.answer))
    return VerifiedRead(listings, source, get_key, remembered_pages)


def new_keys(read: VerifiedRead) -> list[str]:
    return [record["id"] for news in read for record in news.new]


def keys(account: SimulatedAccount) -> set[str]:
    return {record["id"] for record in account.records}


def numbers(account: SimulatedAccount) -> list[int]:
    return [number for _, number in account.asked]


def at(request: int, change: Callable[[], object]) -> Callable[[int], object]:
    """Return a hook that makes one change before the response to one request."""
    return lambda number: number == request and change()


def archive(account: SimulatedAccount, place: int) -> None:
    account.touch(account.records[place], status="archived")


@pytest.mark.parametrize("listing", [DEFAULT, CONTACTS])
@pytest.mark.parametrize("count", range(8))
def test_unchanged_listing(listing: Listing, count: int) -> None:
    account = SimulatedAccount().fill(count)
    read = read_of(account, listing)
    assert new_keys(read) == [record["id"] for record in account.records]
    pages = max(1, -(-count // 2))
    edges = {0: [1], 1: [1], 2: [1, 2]}.get(count, [1, pages + (count % 2 == 0)])
    assert numbers(account) == [*range(1, pages + 1), *edges]
    assert (read.is_verified, read.passes, read.pages) == (True, 1, pages)
    assert (read.records, read.announced, read.duplicates) == (count, count, [])


def test_order_of_requests() -> None:
    account = SimulatedAccount().fill(3, "archived").fill(5)
    read = read_of(account, *OFFERS)
    assert sorted(new_keys(read)) == sorted(keys(account))
    assert account.asked[:5] == [(DEFAULT, 1), (DEFAULT, 2), (DEFAULT, 3), (ARCHIVED, 1), (ARCHIVED, 2)]
    assert account.asked[5:] == [(DEFAULT, 1), (DEFAULT, 3), (ARCHIVED, 1), (ARCHIVED, 2)]
    assert (read.is_verified, read.announced) == (True, 8)


def test_announced_records() -> None:
    read = read_of(SimulatedAccount().fill(3, "archived").fill(5), *OFFERS)
    assert [read.announced for _ in read] == [5, 5, 5, 8, 8, 8, 8, 8, 8]


@pytest.mark.parametrize("request_number", range(1, 12))
@pytest.mark.parametrize("archived", range(6))
@pytest.mark.parametrize("created", [0, 3, 6])
def test_archived_and_created_offer(request_number: int, archived: int, created: int) -> None:
    account = SimulatedAccount().fill(2, "archived").fill(6)
    before = keys(account)

    def swap() -> None:
        archive(account, archived)
        account.create(created)

    account.before_answer = at(request_number, swap)
    read = read_of(account, *OFFERS)
    assert before <= set(new_keys(read))
    assert read.is_verified


@pytest.mark.parametrize("request_number", range(1, 12))
@pytest.mark.parametrize("restored", range(4))
def test_restored_offer(request_number: int, restored: int) -> None:
    account = SimulatedAccount().fill(3).fill(4, "archived")
    account.before_answer = at(request_number, lambda: account.touch(account.records[restored], status="active"))
    read = read_of(account, *OFFERS)
    assert set(new_keys(read)) == keys(account)
    assert read.is_verified


@pytest.mark.parametrize("request_number", range(1, 5))
@pytest.mark.parametrize("count", [0, 25, 39])
def test_unpaginated_response_truncated_once(request_number: int, count: int) -> None:
    account = SimulatedAccount(per_page=None, cut_short={request_number: count}).fill(40)
    read = read_of(account, *OFFERS)
    assert len(new_keys(read)) == read.records == read.announced == 40
    assert read.is_verified
    assert read.passes == (2 if request_number in {1, 3} else 1)


def test_unpaginated_response_truncated_in_every_pass() -> None:
    account = SimulatedAccount(per_page=None, cut_short={1: 25, 3: 25, 5: 25}).fill(40)
    read = read_of(account, DEFAULT)
    assert len(new_keys(read)) == 40
    assert (read.is_verified, read.passes, read.announced) == (False, 3, 40)


@pytest.mark.parametrize("listing", [DEFAULT, CONTACTS])
def test_last_page_truncated_once(listing: Listing) -> None:
    account = SimulatedAccount(per_page=10, cut_short={2: 3}).fill(15)
    read = read_of(account, listing)
    assert set(new_keys(read)) == keys(account)
    assert (read.is_verified, read.passes, read.records) == (True, 2, 15)


@pytest.mark.parametrize("listing", [DEFAULT, CONTACTS])
def test_last_page_always_truncated(listing: Listing) -> None:
    account = SimulatedAccount(per_page=10).fill(2, "archived").fill(15)
    account.before_answer = lambda number: account.asked[-1] == (listing, 2) and account.cut_short.update({number: 3})
    read = read_of(account, listing, *([ARCHIVED] if listing == DEFAULT else []))
    assert len(set(new_keys(read))) == (15 if listing == DEFAULT else 13)
    assert (read.is_verified, read.passes) == (False, 3)


def test_offers_with_capped_count() -> None:
    account = SimulatedAccount(per_page=100, cap=1000).fill(1200)
    read = read_of(account, *OFFERS)
    assert set(new_keys(read)) == keys(account)
    assert (read.is_verified, read.passes, read.records, read.duplicates) == (True, 2, 1200, [])


def test_moving_offers_with_capped_count() -> None:
    account = SimulatedAccount(per_page=100, cap=1000).fill(1200)
    account.before_answer = at(13, account.create)
    read = read_of(account, *OFFERS)
    assert set(new_keys(read)) == keys(account)
    assert (read.is_verified, read.passes) == (True, 3)


def test_contacts_with_capped_count() -> None:
    account = SimulatedAccount(per_page=100, cap=1000).fill(1200)
    read = read_of(account, CONTACTS)
    assert set(new_keys(read)) == keys(account)
    assert numbers(account) == [*range(1, 11), 1, 11, 11, 12, 13, 1, 13]
    assert (read.is_verified, read.passes) == (True, 1)


def test_contacts_after_full_page_of_known_records() -> None:
    account = SimulatedAccount(cap=4).fill(7)
    before = keys(account)
    account.before_answer = at(3, lambda: account.fill(2))
    read = read_of(account, CONTACTS)
    assert before <= set(new_keys(read))
    assert read.is_verified


def test_archived_offer_with_capped_count() -> None:
    account = SimulatedAccount(cap=2).fill(9)
    account.before_answer = at(4, lambda: archive(account, 3))
    read = read_of(account, *OFFERS)
    assert set(new_keys(read)) == keys(account)
    assert read.is_verified


def test_persistent_duplicates() -> None:
    account = SimulatedAccount(in_both={"record-2", "record-4"}).fill(5)
    read = read_of(account, *OFFERS)
    assert sorted(new_keys(read)) == sorted(keys(account))
    assert (read.is_verified, read.passes, read.records) == (True, 2, 5)
    assert (read.announced, read.duplicates) == (7, ["record-4", "record-2"])


def test_duplicates_from_a_move() -> None:
    account = SimulatedAccount().fill(6)
    account.before_answer = at(2, lambda: account.records.insert(0, account.records.pop(3)))
    read = read_of(account, DEFAULT)
    assert set(new_keys(read)) == keys(account)
    assert (read.is_verified, read.passes, read.duplicates) == (True, 2, [])


def test_moving_duplicates() -> None:
    account = SimulatedAccount(in_both={"record-2"}).fill(4).fill(1, "archived")
    account.before_answer = at(2, lambda: account.records.insert(0, account.records.pop(3)))
    read = read_of(account, *OFFERS)
    assert set(new_keys(read)) == keys(account)
    assert (read.is_verified, read.passes, read.duplicates) == (True, 3, ["record-2"])


def test_duplicates_with_fewer_records_in_second_pass() -> None:
    account = SimulatedAccount(cap=2, in_both={"record-2"}).fill(3)
    account.before_answer = at(9, account.records.pop)
    read = read_of(account, *OFFERS)
    assert set(new_keys(read)) > keys(account)
    assert (read.is_verified, read.passes, read.duplicates) == (True, 3, ["record-2"])


def test_changed_record_is_yielded_again() -> None:
    account = SimulatedAccount().fill(3)
    account.before_answer = at(4, lambda: account.change(account.records[2]))
    pages = list(read_of(account, DEFAULT))
    assert [[record["id"] for record in news.new] for news in pages] == [["record-3", "record-2"], ["record-1"], [], []]
    assert [[record["version"] for record in news.changed] for news in pages] == [[], [], [], [2]]
    assert [news.page.number for news in pages] == [1, 2, 1, 2]


def test_second_pass_yields_new_and_changed_records() -> None:
    account = SimulatedAccount().fill(3)

    def change() -> None:
        account.create()
        account.change(account.records[2])

    account.before_answer = at(3, change)
    pages = list(read_of(account, DEFAULT))
    assert [record["id"] for news in pages for record in news.new] == ["record-3", "record-2", "record-1", "record-4"]
    assert [record["id"] for news in pages for record in news.changed] == ["record-2"]


def test_closing_check_yields_changes() -> None:
    account = SimulatedAccount().fill(1, "archived").fill(1)

    def change() -> None:
        account.create()
        account.change(account.records[-1])

    account.before_answer = at(3, change)
    read = read_of(account, *OFFERS)
    pages = list(read)
    assert [record["version"] for record in pages[3].changed] == [2]
    assert (read.is_verified, read.passes) == (True, 2)


@pytest.mark.parametrize("archived,found", [(0, True), (1, True), (2, False)])
def test_swap_on_first_page(archived: int, found: Any) -> None:
    account = SimulatedAccount().fill(6)
    before = account.records[4]

    def swap() -> None:
        archive(account, archived)
        account.records.append(account.records.pop(archived))
        account.create(5)

    account.before_answer = at(3, swap)
    assert (before["id"] in new_keys(read_of(account, DEFAULT))) is found


def test_removal_after_page_was_read() -> None:
    account = SimulatedAccount().fill(6)
    account.before_answer = at(4, lambda: archive(account, 3))
    read = read_of(account, DEFAULT)
    assert len(new_keys(read)) == 6
    assert (read.is_verified, read.passes, read.announced) == (True, 2, 5)


def test_a_count_that_grows_starts_a_new_pass_at_once() -> None:
    account = SimulatedAccount().fill(9)
    account.before_answer = at(3, account.create)
    read = read_of(account, DEFAULT)
    assert set(new_keys(read)) == keys(account)
    assert numbers(account) == [1, 2, 3, 1, 2, 3, 4, 5, 1, 6]


@pytest.mark.parametrize("change", ["create", "remove"])
def test_change_of_last_page_with_capped_count(change: str) -> None:
    account = SimulatedAccount(cap=2).fill(5)
    account.before_answer = at(14, account.records.pop if change == "remove" else lambda: account.create(5))
    read = read_of(account, DEFAULT)
    assert len(new_keys(read)) == account.created
    assert (read.is_verified, read.passes) == (False, 3)


def removal(account: SimulatedAccount, count: int = 1) -> Callable[[], None]:
    def remove() -> None:
        del account.records[:count]

    return remove


def test_removal_goes_back_one_page() -> None:
    account = SimulatedAccount().fill(9)
    account.before_answer = at(3, removal(account))
    read = read_of(account, CONTACTS)
    assert keys(account) <= set(new_keys(read))
    assert numbers(account) == [1, 2, 3, 2, 3, 4, 1, 5]
    assert (read.is_verified, read.passes, read.records, read.announced) == (True, 1, 9, 8)


def test_removals_go_back_several_pages() -> None:
    account = SimulatedAccount().fill(13)
    account.before_answer = at(4, removal(account, 4))
    read = read_of(account, CONTACTS)
    assert keys(account) <= set(new_keys(read))
    assert numbers(account) == [1, 2, 3, 4, 3, 2, 1, 2, 3, 4, 5, 1, 5]
    assert (read.is_verified, read.passes) == (True, 1)


def test_equal_count_after_removal() -> None:
    account = SimulatedAccount().fill(12)
    before = keys(account)

    def change(number: int) -> None:
        if number == 4:
            del account.records[:4]
        if number == 5:
            for _ in range(4):
                account.create(len(account.records))

    account.before_answer = change
    read = read_of(account, CONTACTS)
    assert keys(account) & before <= set(new_keys(read))
    assert read.is_verified


@pytest.mark.parametrize("remembered_pages,passes", [(2, 2), (3, 1), (4, 1)])
def test_going_back_too_far_starts_over(remembered_pages: int, passes: int) -> None:
    account = SimulatedAccount().fill(20)
    account.before_answer = at(6, removal(account, 6))
    read = read_of(account, CONTACTS, remembered_pages=remembered_pages)
    assert keys(account) <= set(new_keys(read))
    assert (read.is_verified, read.passes) == (True, passes)


def test_signups_need_no_extra_requests() -> None:
    account = SimulatedAccount().fill(9)
    before = keys(account)
    account.before_answer = lambda number: number in {2, 4, 5} and account.create()
    read = read_of(account, CONTACTS)
    assert before < set(new_keys(read))
    assert numbers(account) == [1, 2, 3, 4, 5, 6, 1, 7]
    assert read.is_verified


@pytest.mark.parametrize("count", [3, 4])
def test_signup_during_closing_check(count: int) -> None:
    account = SimulatedAccount().fill(count)
    account.before_answer = at(3, account.create)
    read = read_of(account, CONTACTS)
    assert set(new_keys(read)) == keys(account)
    assert (read.is_verified, read.passes) == (True, 1)


@pytest.mark.parametrize("signups", [0, 1, 20])
def test_first_and_recent_contacts_are_remembered(signups: int) -> None:
    account = SimulatedAccount().fill(200)
    account.before_answer = lambda number: number % 5 == 0 and number <= 5 * signups and account.create()
    read = read_of(account, CONTACTS, remembered_pages=3)
    yielded = Counter(new_keys(read))
    assert max(yielded.values()) == 1
    assert (read.is_verified, read.records) == (True, len(yielded))


def test_other_contacts_are_forgotten() -> None:
    account = SimulatedAccount(per_page=10).fill(300)
    moved = account.records[100]

    def change(number: int) -> None:
        if number == 2:
            account.create()  # from here on, the ends of pages and of the remembered records differ
        if number == 15:
            account.records.remove(moved)
            account.records.insert(250, moved)

    account.before_answer = change
    yielded = Counter(new_keys(read_of(account, CONTACTS, remembered_pages=4)))
    assert yielded[moved["id"]] == 2


def test_several_pages_of_signups() -> None:
    account = SimulatedAccount(per_page=10).fill(195)
    before = keys(account)
    account.before_answer = at(11, lambda: account.fill(30))
    read = read_of(account, CONTACTS, remembered_pages=4)
    assert before <= set(new_keys(read))
    assert numbers(account) == [*range(1, 24), 1, 23]


class Endless:
    """A source with one record on each page, and any counts."""

    def __init__(self, announce: Callable[[int], tuple[int, int]]) -> None:
        self.announce = announce
        self.requests = 0

    def pages(self, listing: Listing, start: int) -> Generator[Page, None, None]:
        number = start
        while True:
            page = self.request([(listing, number)])[0]
            yield page
            if not page.has_next:
                return
            number += 1

    def request(self, wanted: Sequence[tuple[Listing, int]]) -> Sequence[Page]:
        self.requests += len(wanted)
        return [Page(number, [{"id": f"{number}"}], 1, 1, *self.announce(number)) for _, number in wanted]

    def discard_prefetched(self) -> None:
        pass


@pytest.mark.parametrize("first_removal,requests", [(2, 91), (3, 92)])
def test_limit_of_repairs(first_removal: int, requests: int) -> None:
    account = SimulatedAccount(per_page=10).fill(200)
    account.before_answer = lambda number: number >= first_removal and account.records.pop(0)
    read = read_of(account, CONTACTS)
    list(read)
    assert (read.is_verified, read.passes, account.requests) == (False, 1, requests)


def test_page_count_of_each_pass() -> None:
    account = SimulatedAccount(per_page=1).fill(1)
    account.before_answer = at(2, lambda: account.fill(1100))
    read = read_of(account, DEFAULT)
    assert set(new_keys(read)) == keys(account)
    assert (read.is_verified, read.passes) == (True, 2)


@pytest.mark.parametrize("listing", [DEFAULT, CONTACTS])
def test_total_that_always_grows(listing: Listing) -> None:
    source = Endless(lambda number: (number + 1, number + 1))
    read = VerifiedRead([listing], source, get_key, 32)
    assert max(news.page.number for news in read) == 1002
    assert source.requests <= 3000
    assert not read.is_verified


@pytest.mark.parametrize("listing", [DEFAULT, CONTACTS])
@pytest.mark.parametrize("announced", [1, 8])
def test_total_pages_that_always_grows(listing: Listing, announced: int) -> None:
    source = Endless(lambda number: (announced, number + 1))
    read = VerifiedRead([listing], source, get_key, 32)
    assert [news.page.number for news in read] == [*range(1, 1000 + announced + 1)]
    assert not read.is_verified


def nested(levels: int) -> Record:
    value: Any = {}
    for level in range(levels - 2):
        value = [value] if level % 2 else {"a": value}
    return {"id": "c", "value": value}


class OneRecord(Endless):
    """A source with two pages, whose second page has one record."""

    def __init__(self, record: Record) -> None:
        super().__init__(lambda _: (3, 2))
        self.record = record

    def request(self, wanted: Sequence[tuple[Listing, int]]) -> Sequence[Page]:
        pages = [[{"id": "a"}, {"id": "b"}], [self.record]]
        return [Page(number, pages[number - 1], 3 - number, 2, *self.announce(number)) for _, number in wanted]


@pytest.mark.parametrize(
    "record,message",
    [
        ({"id": None}, "field 'id' is missing or empty"),
        (nested(101), "nested more than 100 levels deep"),
        ({"id": "c", "value": json.loads('{"a":' * 100 + "1" + "}" * 100)}, "nested more than 100 levels deep"),
        (nested(100_000), "nested too deeply"),
    ],
)
def test_invalid_record(record: Record, message: str) -> None:
    with pytest.raises(RecordError) as error:
        list(VerifiedRead([Listing("paused")], OneRecord(record), get_key, 32))
    assert str(error.value) == f"listing status=paused, page 2, record 1: {message}"


@pytest.mark.parametrize(
    "record",
    [
        nested(100),
        {"id": "c", "text": "[" * 200},
        {"id": "c", "items": [{}] * 100},
        {**nested(100), "items": [{}] * 100},
        {"id": "c", "text": "\ud800"},
    ],
)
def test_valid_record(record: Record) -> None:
    read = VerifiedRead([DEFAULT], OneRecord(record), get_key, 32)
    assert new_keys(read) == ["a", "b", "c"]
    assert read.is_verified


def test_change_of_lone_surrogate() -> None:
    source = OneRecord({"id": "c", "text": "\ud800"})
    changed = []
    for news in VerifiedRead([DEFAULT], source, get_key, 32):
        changed += news.changed
        if news.page.number == 2:
            source.record = {"id": "c", "text": "\ud801"}
    assert changed == [source.record]


def test_listing_names() -> None:
    assert [str(listing) for listing in OFFERS] == ["default listing", "listing status=archived"]


def read_ahead(
    change: Callable[[SimulatedAccount, int], object], workers: int
) -> tuple[SimulatedAccount, VerifiedRead, set[str]]:
    """Read 6,000 contacts with prefetching; also return the keys of remaining contacts that were missed."""
    choice = random.Random(0)  # noqa: S311
    account = SimulatedAccount(per_page=50).fill(6000)
    before = keys(account)
    account.before_answer = lambda number: change(account, number)

    def fetch(wanted: Wanted) -> Page:
        time.sleep(choice.random() / 1000)  # so that responses come out of order
        return account.answer(wanted)

    with closing(Prefetch(fetch, workers)) as prefetch:
        read = read_of(account, CONTACTS, fetcher=prefetch, remembered_pages=2 * AHEAD_PER_WORKER * workers)
        found = set(new_keys(read))
    return account, read, (before & keys(account)) - found


WORKERS = [1, 8]


@pytest.mark.parametrize("workers", WORKERS)
def test_requests_without_changes(workers: int) -> None:
    account, read, missed = read_ahead(lambda *_: None, workers)
    assert (read.is_verified, missed) == (True, set())
    assert account.requests == 120 + 2


@pytest.mark.parametrize("workers", WORKERS)
def test_requests_with_signups(workers: int) -> None:
    account, read, missed = read_ahead(lambda account, number: number % 5 == 0 and account.create(), workers)
    assert (read.is_verified, missed) == (True, set())
    assert account.requests <= 1.6 * 121


@pytest.mark.parametrize("workers", WORKERS)
def test_requests_with_removals(workers: int) -> None:
    account, read, missed = read_ahead(lambda account, number: number % 12 == 0 and account.records.pop(0), workers)
    assert (read.is_verified, missed) == (True, set())
    assert account.requests <= 2 * 120


@pytest.mark.parametrize("workers", WORKERS)
def test_requests_with_constant_removals(workers: int) -> None:
    account, read, missed = read_ahead(lambda account, number: number > 1 and account.records.pop(0), workers)
    assert not read.is_verified
    assert account.requests <= 4.5 * 120
    assert len(missed) < 600


def test_total_that_grows_with_each_response() -> None:
    class Server(Endless):
        def request(self, wanted: Sequence[tuple[Listing, int]]) -> Sequence[Page]:
            self.announce = lambda _: (self.requests, 0)
            return super().request(wanted)

    source = Server(lambda _: (0, 0))
    read = VerifiedRead([CONTACTS], source, get_key, 32)
    assert max(news.page.number for news in read) == 1001
    assert source.requests <= 3100
    assert not read.is_verified


class Unchanging:
    """A server whose pages are the same whenever they are requested; each letter is a record."""

    def __init__(self, *pages: str) -> None:
        self.contents = pages

    def page(self, number: int) -> Page:
        keys = [*self.contents, ""][number - 1]
        total = sum(map(len, self.contents))
        return Page(number, [{"id": key} for key in keys], len(keys), len(self.contents[0]), total, len(self.contents))

    def pages(self, _: Listing, start: int) -> Generator[Page, None, None]:
        yield from map(self.page, range(start, len(self.contents) + 1))

    def request(self, wanted: Sequence[tuple[Listing, int]]) -> list[Page]:
        return [self.page(number) for _, number in wanted]

    def discard_prefetched(self) -> None:
        pass


@pytest.mark.parametrize("has_stable_order", [False, True])
@pytest.mark.parametrize("pages", [2, 3])
def test_ignored_page_number(pages: int, has_stable_order: bool) -> None:  # noqa: FBT001
    source = Unchanging(*["ab"] * pages)
    read = VerifiedRead([Listing(has_stable_order=has_stable_order)], source, get_key, 8)
    assert len(new_keys(read)) >= 2
    assert (read.passes, read.is_verified) == (MAX_PASSES, False)


@pytest.mark.parametrize("pages", [("abc", "ab"), ("aa", "ab"), ("a", "a")])
def test_duplicates_in_a_page_and_on_the_first(pages: tuple[str, ...]) -> None:
    read = VerifiedRead([DEFAULT], Unchanging(*pages), get_key, 8)
    assert set(new_keys(read)) == set("".join(pages))
    assert (read.passes, read.is_verified) == (2, True)
    assert len(read.duplicates) == len("".join(pages)) - read.records
