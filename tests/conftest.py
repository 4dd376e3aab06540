"""What holds for every test: no warning and no error goes unnoticed, and CI skips nothing."""

import gc
import logging
import os
from collections.abc import Iterator

import pytest

pytest_plugins = ["tests.pages", "tests.modules", "tests.engines"]  # fixtures that several modules use


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect no garbage while thousands of tests are found, all of which stay."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.fixture(autouse=True)
def no_unexpected_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test that logs a warning or an error outside of `tornado.testing.ExpectLog`."""
    yield
    for phase in ("setup", "call"):
        loud = [record for record in caplog.get_records(phase) if record.levelno >= logging.WARNING]
        assert not loud, [record.getMessage() for record in loud]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Under CI a skipped test is a failure: something that should be there is missing."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and reporter is not None and reporter.stats.get("skipped") and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
