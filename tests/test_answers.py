"""Whatever the API responds with, the tap delivers at least what the template's tap does, and says what it missed."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest

from tests.answers import CLOCK_BEHIND, CONTRADICTIONS, OPEN, TRANSIENT, VARIATIONS
from tests.fake_trackly import FakeTrackly, answer
from tests.project import HOME
from tests.tap import BOOKMARK, Run, offers_state, selecting
from tests.varied_trackly import Variation, VariedTrackly, keys_in, template_delivers, varied

pytestmark = pytest.mark.source  # the tap from the SDK's template is not part of the source distribution


def read(trackly: VariedTrackly, **how: object) -> Run:
    """Run the tap with a bookmark that is older than all offers, so that everything is sent."""
    if trackly.stream == "offers":
        how = {"state": offers_state(), **how}
    return trackly.run(catalog=selecting(trackly.stream), **how)  # type: ignore[arg-type]


def outcome(trackly: VariedTrackly, run: Run) -> str:
    """Return how a run ended, after checking that it kept what such a run promises."""
    delivered = keys_in(trackly.stream, run.records_of(trackly.stream))
    assert delivered >= trackly.sent, "records that were received are missing"
    warnings = [line for line in run.lines("WARNING") if "Incomplete read" in line]
    if run.status == 0 and not warnings:
        remaining = trackly.expected & keys_in(trackly.stream, trackly.account.records(trackly.stream))
        assert delivered >= remaining, "a complete read without all records"
        assert trackly.stream == "contacts" or not trackly.expected or has_advanced(run)
        return "complete"
    assert not run.states or trackly.stream == "contacts" or run.bookmark == BOOKMARK
    if run.status == 0:
        assert len(warnings) == 1
        return "incomplete"
    assert run.status == 1
    assert len(run.lines("ERROR")) >= 1
    assert "Traceback" not in run.log
    return "failed"


def has_advanced(run: Run) -> bool:
    return run.bookmark is not None and datetime.fromisoformat(run.bookmark) > datetime.fromisoformat(BOOKMARK)


def assert_no_less_than_template(variation: Variation, run: Run) -> None:
    """Run the template's tap against the same variation, unless the run has delivered all that there is."""
    delivered = keys_in(variation.stream, run.records_of(variation.stream))
    if not delivered >= keys_in(variation.stream, variation.account().records(variation.stream)):
        _, keys = template_delivers(variation)
        assert delivered >= keys


@pytest.mark.parametrize("variation", OPEN.values(), ids=OPEN)
def test_normal_run(variation: Variation) -> None:
    with varied(variation) as trackly:
        run = read(trackly)
        assert outcome(trackly, run) == "complete", run.log
        assert [line for line in run.lines("WARNING") if "Retrying" not in line] == []
        assert len(trackly.requests) <= 3 * variation.pages
    assert_no_less_than_template(variation, run)


@pytest.mark.parametrize("variation", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradiction(variation: Variation) -> None:
    with varied(variation) as trackly:
        run = read(trackly)
        ended = outcome(trackly, run)
        assert ended in variation.outcomes, run.log
        if ended == "incomplete":
            trackly.readable.clear()
            again = read(trackly, state=run.state, fail_if_incomplete=True)
            assert again.status == 1
            assert "Incomplete read" in again.log
            assert trackly.stream == "contacts" or again.bookmark == BOOKMARK
            again_sent = keys_in(trackly.stream, again.records_of(trackly.stream))
            assert again_sent >= trackly.sent, "the next run does not send everything that it reads"
    assert_no_less_than_template(variation, run)


@pytest.mark.parametrize("variation", TRANSIENT.values(), ids=TRANSIENT)
def test_transient_fault(variation: Variation) -> None:
    with varied(variation) as trackly:
        run = read(trackly)
        assert outcome(trackly, run) == "complete", run.log
    assert_no_less_than_template(variation, run)


def test_bookmark_with_the_server_clock_behind() -> None:
    with varied(OPEN["The server's clock is 10 minutes behind"]) as trackly:
        run = read(trackly)
    assert run.bookmark
    latest = datetime.now(timezone.utc) - CLOCK_BEHIND - timedelta(minutes=5)
    assert datetime.fromisoformat(run.bookmark) <= latest


def test_variations_in_the_documentation() -> None:
    rows = re.findall(r"^\| (.+?) \| .+ \| .+ \|$", (HOME / "docs" / "answers.md").read_text(), re.MULTILINE)
    assert [row for row in rows if row not in {"what the server does", "---"}] == list(VARIATIONS)


def test_rows_in_the_readme_are_those_of_the_documentation() -> None:
    readme = (HOME / "README.md").read_text()
    head = "| what the server does | tap-trackly | a tap from the SDK's template |\n"
    rows = readme.partition(head)[2].partition("\n\n")[0].splitlines()
    assert len(rows) > 1
    assert {*rows} <= {*(HOME / "docs" / "answers.md").read_text().splitlines()}


def test_streams_do_not_hold_each_other_up(trackly: FakeTrackly) -> None:
    refused = answer({"error": "Contacts are not enabled.", "code": "contacts_not_enabled"}, 403)
    trackly.inject(refused, times=10, stream="contacts")
    trackly.inject(answer({"error": "Invalid status.", "code": "validation_error"}, 400), times=10, status="archived")
    run = trackly.run(catalog=selecting("offers", "lists", "contacts"))
    assert trackly.requests[0].stream == "offers"
    assert run.status == 1
    assert len(run.records_of("offers")) == 23
    assert len(run.records_of("lists")) == 5
    assert sorted("contacts" in line for line in run.lines("ERROR")) == [False, True]
    assert "replication_key_value" not in run.state["bookmarks"].get("offers", {})


def test_failed_trial_of_a_stream_map(trackly: FakeTrackly) -> None:
    """A run under other settings that fails after some records leaves some of its own in the target."""
    before = trackly.sync()
    trackly.inject(answer({"error": "Invalid status.", "code": "validation_error"}, 400), times=10, status="archived")
    trial = trackly.run(state=before.state, stream_maps={"offers": {"name": "'trial'"}})
    assert trial.status == 1
    assert {record["name"] for record in trial.records} == {"trial"}
    after = trackly.run(state=trial.state)
    assert set(trial.ids) <= set(after.ids)
