"""The checks of published batches in the shared database: each is made once, one that failed again."""

from dataclasses import replace

from include.config.loading import load_model, load_project
from include.core.interval import Interval
from include.core.settings import Settings
from include.io.postgres.skew import read_checks, read_unchecked, record_checks
from include.monitoring.skew import SkewCheck
from include.steps.publish import publish
from tests.integration import small
from tests.integration.small import DAY


def test_a_check_that_failed_is_made_again_and_one_that_compared_stays(settings: Settings) -> None:
    model, project, days = load_model("late_ferry"), load_project("ferries"), Interval.of(DAY)
    small.prepare(settings, project, DAY)
    small.promoted(settings, model.name, 1, DAY)
    small.score(settings, project, model.name, DAY)
    publish(model, days, settings)
    [batch] = read_unchecked(settings, model.name, days)
    failed = SkewCheck(DAY, batch.batch_id, 1, state="failed", why="the hash key is another one")
    compared = SkewCheck(DAY, batch.batch_id, 1, rows=4, features={"wind": 2})
    record_checks(settings, model.name, [failed])
    assert read_unchecked(settings, model.name, days) == [batch]
    record_checks(settings, model.name, [compared])
    assert read_unchecked(settings, model.name, days) == []
    record_checks(settings, model.name, [replace(failed, why="later")])
    [kept] = read_checks(settings, model.name, days)
    assert (kept.state, kept.why, kept.features) == ("compared", "", {"wind": 2})
