"""The short run of the fuzzer; bin/test --api has the long one."""

from __future__ import annotations

import pytest

from tests.api.fuzzer import fuzz


@pytest.mark.engine
def test_no_request_that_the_document_allows_or_forbids_is_answered_otherwise() -> None:
    passed, report = fuzz(examples=4, seed=1, phases="fuzzing,stateful")
    assert passed, report
