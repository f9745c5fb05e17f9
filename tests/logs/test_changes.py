"""What changed between two states of a record."""

from __future__ import annotations

from portal.logs import changes
from portal.logs.changes import between


def as_rows(found: list[changes.Change]) -> list[tuple[str, str | None, str | None]]:
    return [(change.path, change.before, change.after) for change in found]


def test_what_the_event_says_it_changed_comes_first():
    found = between('{"total":"99.50","note":"x"}', '{"total":"89.50"}', None)
    assert as_rows(found.announced) == [("total", '"89.50"', '"99.50"')]
    assert found.unannounced == []


def test_what_the_event_keeps_silent_about_is_found_in_the_record_before():
    found = between('{"total":2,"state":"paid"}', '{"total":1}', '{"total":1,"state":"open"}')
    assert as_rows(found.announced) == [("total", "1", "2")]
    assert as_rows(found.unannounced) == [("state", '"open"', '"paid"')]


def test_fields_deep_inside_are_named_by_their_path():
    found = between(
        '{"items":[{"sku":"a","price":2}],"to":{"city":"Bern"}}',
        None,
        '{"items":[{"sku":"a","price":1},{"sku":"b"}],"to":{"city":"Basel"}}',
    )
    assert as_rows(found.unannounced) == [
        ("items[0].price", "1", "2"),
        ("items[1]", '{"sku": "b"}', None),
        ("to.city", '"Basel"', '"Bern"'),
    ]


def test_numbers_are_shown_as_they_were_written_and_are_no_text():
    found = between('{"a":1e400,"b":1.50,"c":"1"}', None, '{"a":2,"b":1.50,"c":1}')
    assert as_rows(found.unannounced) == [("a", "2", "1e400"), ("c", "1", '"1"')]


def test_true_is_not_one_and_null_is_not_absent():
    found = between('{"a":true,"b":null}', None, '{"a":1}')
    assert as_rows(found.unannounced) == [("a", "1", "true"), ("b", None, "null")]


def test_a_change_of_everything_is_cut_and_says_so():
    data = "{" + ",".join(f'"f{n}":{n}' for n in range(500)) + "}"
    found = between(data, None, "{}")
    assert len(found.unannounced) == changes.MAX_CHANGES
    assert found.is_cut


def test_a_huge_record_is_not_compared():
    data = '{"a":"' + "x" * changes.MAX_COMPARED + '"}'
    assert between(data, None, "{}").is_too_large
