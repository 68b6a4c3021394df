"""`public_page`: the page in S3 is what readers see, whole, with its own files, also after a kill and two writers."""

import csv
import io
import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from include import cli
from include.config.loading import load_model, load_project
from include.core.errors import ActionRequiredError, ConfigError, PageGoneError, UnreachableError
from include.core.interval import Interval
from include.core.project import Project
from include.core.public_page import PublicPage
from include.core.records import PublicPageMade
from include.core.settings import BY_HAND, Settings
from include.io import postgres, storage
from include.io.exports import export_published
from include.io.postgres.public_pages import read_newest
from include.io.public_pages import PublicFolder
from include.operations import check as checking
from include.operations import rollback as rolling_back
from include.operations import unpublish as unpublishing
from include.operations.rollback import rollback
from include.operations.unpublish import unpublish
from include.runner.run import run
from include.steps import public_page as step
from include.steps.public_page import find_folder, public_page
from include.steps.publish import publish_scores
from tests.integration import small
from tests.integration.test_publish import AS_OF, DAY, asked, entities_of, frame
from tests.integration.two_writers import write_at_once
from tests.pages import FORMULA, Structure
from tests.s3 import KEYS, on_s3

NOBODY_ANSWERS = {"AWS_ENDPOINT_URL": SecretStr("http://127.0.0.1:9"), "AWS_REGION": SecretStr("eu-west-1")} | {
    name: SecretStr(value) for name, value in KEYS.items()
}
NEXT = DAY + timedelta(days=1)
LATE = load_model("late_ferry")
SHOWN = load_project("ferries").model_copy(update={"public_page": PublicPage(models=("late_ferry",), rows=3)})


@pytest.fixture
def own(settings: Settings, s3: str) -> Settings:
    return on_s3(settings, s3)


@pytest.fixture
def put(own: Settings) -> Callable[..., None]:
    """Return a function that publishes days, without the page."""

    def put(*days: date, company: str = "UA", **changes: Any) -> None:
        scores = frame(*days, **changes)
        about: dict[str, Any] = {"days": asked(scores), "as_of": dict.fromkeys(days, AS_OF)}
        publish_scores(SHOWN, LATE, scores.lazy(), entities_of(scores, company).lazy(), own, **about)

    return put


def make(own: Settings, project: Project = SHOWN, *, move: bool = False) -> PublicPageMade:
    return public_page(project, Interval.of(DAY), own, move=move)


def files(own: Settings) -> dict[str, bytes]:
    filesystem, root = storage.filesystem(own, f"{own.tables}/_public/ferries")
    return {path.removeprefix(f"{root}/"): filesystem.cat_file(path) for path in filesystem.find(root)}


def page(own: Settings) -> str:
    return files(own)["index.html"].decode()


def lines(own: Settings) -> list[dict[str, str]]:
    """Return the rows of the file with all predictions that the page links."""
    [name] = re.findall(r'href="(late_ferry-20[^"]+\.csv)"', page(own))
    return [*csv.DictReader(io.StringIO(files(own)[name].decode("utf-8-sig"), newline=""))]


def test_the_page_is_what_readers_see_with_files_of_all_rows(put: Any, own: Settings) -> None:
    put(DAY, rows=4)
    put(NEXT, rows=5, company=FORMULA)
    made = make(own)
    assert (made.changed, made.rows, made.shown) == (True, 3, {"late_ferry": NEXT})
    assert made.page.startswith("s3://")
    text = Structure(page(own)).text
    assert "Run date 2013-03-02: 5 predictions of version 1, published " in text
    assert "it has the 3 highest of 5" in text
    assert "That is not known yet" in text
    assert [row["score"] for row in lines(own)] == ["0.1", "0.2", "0.3", "0.4", "0.5"]
    assert lines(own)[0]["company"] == f"'{FORMULA}", "a spreadsheet does not run it"
    assert lines(own)[0]["departs_at"] == "2013-03-01T03:00:00-05:00"
    filesystem, root = storage.filesystem(own, own.tables)
    about = filesystem.info(f"{root}/_public/ferries/index.html")
    assert about["ContentType"] == "text/html; charset=utf-8", "a browser shows it"

    before = files(own)
    assert make(own).changed is False
    assert files(own) == before
    assert len(before) == 4  # the page, all predictions twice, the history


def test_the_file_for_programs_has_the_rows_and_types_of_an_export(put: Any, own: Settings) -> None:
    put(DAY, rows=4)
    put(NEXT, rows=5, company=FORMULA)
    make(own)
    [name] = re.findall(r'href="(late_ferry-20[^"]+\.parquet)"', page(own))
    rows, export = pl.read_parquet(files(own)[name]), exported(own)
    assert rows.equals(export) and rows.schema == export.schema
    assert rows["company"][0] == FORMULA, "a program runs no text"
    assert rows.columns == [*lines(own)[0]]


def exported(own: Settings) -> pl.DataFrame:
    """Return what `exports` writes of the run date."""
    place = own.model_copy(update={"exports": own.landing.replace("landing", "exports")})
    export_published(place, SHOWN, LATE.model_copy(update={"exports": "parquet"}), [NEXT])
    filesystem, root = storage.filesystem(place, f"{place.exports}/ferries/late_ferry/{NEXT}")
    return pl.read_parquet(filesystem.cat_file(f"{root}/predictions.parquet"))


def test_check_finds_a_page_that_is_not_what_readers_see(
    put: Any, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "model_names", lambda _: [])  # this is about the page only

    def found() -> list[str]:
        return [each for each in checking.check(SHOWN, Interval.of(DAY), own) if "index.html" in each]

    assert found() == [], "readers see nothing, and there is no page"
    make(own)
    assert "No predictions are in this page." in Structure(page(own)).text
    put(DAY)  # and the task that writes the page was killed
    [finding] = found()
    assert re.search(r"index.html does not show what readers see of late_ferry: 2013-03-01, .*public_page --p", finding)
    make(own)
    assert found() == []
    postgres.predictions.unpublish(own, LATE, Interval.of(DAY), None)
    [finding] = found()
    assert "shows predictions of late_ferry, and readers see none" in finding


def elsewhere(own: Settings) -> Settings:
    """Return the settings of a task that writes pages to a place of their own, which a shell does not have."""
    place = {"public_pages": own.tables.replace("tables", "pages"), "run_id": "scheduled__1"}
    return own.model_copy(update=place)


def in_shell(own: Settings, **changes: Any) -> Settings:
    return own.model_copy(update={"run_id": BY_HAND, **changes})


def page_of_tasks(own: Settings) -> str:
    return PublicFolder(own, "ferries", str(elsewhere(own).public_pages)).read_page()


def test_a_command_in_a_shell_finds_the_page_where_tasks_write_it(
    put: Any, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpublishing, "load_project", lambda _: SHOWN)
    monkeypatch.setattr(checking, "model_names", lambda _: [])  # this is about the page only
    put(DAY)
    put(NEXT)
    make(elsewhere(own))

    def found() -> list[str]:
        return [each for each in checking.check(SHOWN, Interval.of(DAY), in_shell(own)) if "index.html" in each]

    assert found() == []
    unpublish(LATE, Interval.of(NEXT), in_shell(own))
    assert "Run date 2013-03-01: 4 predictions" in Structure(page_of_tasks(own)).text
    assert make(in_shell(own)).page.endswith("/pages/ferries/index.html")
    assert files(own) == {}, "none beside the tables, where nobody reads it"
    postgres.predictions.unpublish(own, LATE, Interval.of(DAY), None)
    [finding] = found()
    assert "/pages/ferries/index.html shows predictions of late_ferry, and readers see none" in finding


def test_nothing_is_taken_back_if_the_page_that_shows_it_cannot_be_found(
    put: Any, own: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in (unpublishing, rolling_back):
        monkeypatch.setattr(module, "load_project", lambda _: SHOWN)
    monkeypatch.setattr(checking, "model_names", lambda _: [])  # this is about the page only
    put(DAY)
    make(elsewhere(own))

    def refused(shell: Settings, why: str) -> None:
        with pytest.raises(ActionRequiredError, match=rf"(?s)Nothing was changed\..*{why}"):
            unpublish(LATE, Interval.of(DAY), shell)
        with pytest.raises(ActionRequiredError, match=rf"(?s)Nothing was changed\..*{why}"):
            rollback(LATE, Interval.of(DAY), shell, to="previous", by="ana", why="it is wrong")
        caplog.clear()
        assert [*checking._page(SHOWN, shell)] == []
        assert "The page for everybody was not checked." in caplog.text
        with pytest.raises(ActionRequiredError, match=rf"{why}"):
            make(shell)
        assert len(small.select(own, "SELECT FROM published")) == 1

    other = in_shell(own, public_pages=own.tables.replace("tables", "other"))
    refused(other, r"in s3://.*/pages, but NIGHTLY_PUBLIC_PAGES is .*/other\. Type the same with .*/pages\. .*--move")
    refused(in_shell(own, tables=f"{own.tables}-2"), r"when tables were in .*NIGHTLY_PUBLIC_PAGES=s3://.*/pages\.")


@pytest.mark.parametrize("place", ["pages", "tables/_public"])
def test_readers_do_not_wait_for_a_page_that_is_gone_or_whose_store_is_down(
    put: Any, own: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    for module in (unpublishing, rolling_back):
        monkeypatch.setattr(module, "load_project", lambda _: SHOWN)
    monkeypatch.setattr(checking, "model_names", lambda _: [])  # this is about the page only
    put(DAY)
    put(NEXT)
    recorded = own.tables.replace("tables", place)
    make(own.model_copy(update={"public_pages": recorded, "run_id": "scheduled__1"}))
    todo = r"Do not repeat the command\.\nWhere tasks run, .*public_page --project ferries\. .*--move"

    def down(_: PublicFolder) -> None:
        raise UnreachableError("the place cannot be listed")

    with monkeypatch.context() as patch:
        patch.setattr(PublicFolder, "require_there", down)
        with pytest.raises(ActionRequiredError, match=rf"readers of the database see.*cannot be listed\n{todo}"):
            unpublish(LATE, Interval.of(NEXT), in_shell(own))
        assert "The change is made all the same" in caplog.text
        assert small.select(own, "SELECT day FROM published") == [{"day": DAY}]
        assert [*checking._page(SHOWN, in_shell(own))] == []
        assert "The page for everybody was not checked." in caplog.text
        with pytest.raises(ActionRequiredError, match="has no champion yet"):  # the page does not hinder it
            rollback(LATE, Interval.of(DAY), in_shell(own), to="previous", by="ana", why="it is wrong")

    filesystem, root = storage.filesystem(own, recorded)
    filesystem.rm(f"{root}/ferries/index.html")
    [finding] = checking._page(SHOWN, in_shell(own))
    assert re.search(r"/ferries/index\.html is not there\. Type: .*public_page --project ferries", finding)
    filesystem.rm(f"{root}/ferries", recursive=True)
    [finding] = checking._page(SHOWN, in_shell(own))
    assert re.search(r"nothing is in .*/ferries .*--move", finding)
    with pytest.raises(ActionRequiredError, match=rf"nothing is in .*/ferries\n{todo}"):
        unpublish(LATE, Interval.of(DAY), in_shell(own))
    assert small.select(own, "SELECT day FROM published") == []
    assert make(in_shell(own, public_pages=recorded), move=True).changed
    assert [*checking._page(SHOWN, in_shell(own))] == []


def test_a_store_that_does_not_answer_is_known_and_not_reached(put: Any, own: Settings) -> None:
    put(DAY)
    make(elsewhere(own))
    with pytest.raises(UnreachableError, match=r"(?s)cannot be listed: .*--move"):
        find_folder(in_shell(own, storage_options=NOBODY_ANSWERS), SHOWN)


def test_a_wrong_place_of_a_connection_does_not_lose_the_page(
    put: Any, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(DAY)
    make(elsewhere(own))
    real, wrong = str(elsewhere(own).public_pages), own.tables.replace("tables", "wrong")

    def refused(*_: object) -> None:
        raise PermissionError("AccessDenied")

    with monkeypatch.context() as patch:
        patch.setattr(PublicFolder, "put_file", refused)
        for place in (wrong, f"{wrong}-too", wrong):
            with pytest.raises(PermissionError):
                make(elsewhere(own).model_copy(update={"public_pages": place}))
    assert places(own) == (wrong, real)
    said = rf"it was in {real}, and it was not written to the new place .*type NIGHTLY_PUBLIC_PAGES={real} python -m"
    with pytest.raises(PageGoneError, match=rf"(?s)nothing is in .*/wrong/ferries\. Before, {said}"):
        make(in_shell(own))
    put(NEXT)
    assert make(in_shell(own, public_pages=real)).changed, "as the message says"
    assert places(own) == (real, None)
    assert "Run date 2013-03-02" in Structure(page_of_tasks(own)).text

    make(elsewhere(own).model_copy(update={"public_pages": f"{wrong}-too"}))
    assert places(own) == (f"{wrong}-too", None), "it was written there"


def places(own: Settings) -> tuple[str, str | None]:
    """Return the place of the page in the database, and the one before."""
    [row] = small.select(own, "SELECT place, place_before FROM public_pages")
    return row["place"], row["place_before"]


def test_a_place_that_was_never_recorded_is_asked_for(put: Any, own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpublishing, "load_project", lambda _: SHOWN)
    put(DAY)
    run("public_page", SHOWN, Interval.of(DAY), elsewhere(own))
    with postgres.connection.engine(own).begin() as connection:
        connection.exec_driver_sql("DELETE FROM public_pages")  # as before migration 0040
    with pytest.raises(ActionRequiredError, match=r"(?s)Nothing was changed.*Set it to `public_pages` of .*--move"):
        unpublish(LATE, Interval.of(DAY), in_shell(own))
    unpublish(LATE, Interval.of(DAY), in_shell(own, public_pages=elsewhere(own).public_pages))
    assert "No predictions are in this page." in Structure(page_of_tasks(own)).text


def test_a_page_moves_if_a_person_says_so_or_the_connection_of_tasks(
    put: Any, own: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    put(DAY)
    make(elsewhere(own))
    with pytest.raises(ActionRequiredError, match="--move"):
        make(in_shell(own, public_pages=own.tables.replace("tables", "other")))
    assert make(in_shell(own), move=True).page.endswith("/tables/_public/ferries/index.html")
    assert re.search(r"was in s3://\S+/pages before, and is in s3://\S+/_public from now on.*remove it", caplog.text)
    assert make(in_shell(own)).page.endswith("/tables/_public/ferries/index.html")
    assert make(elsewhere(own)).page.endswith("/pages/ferries/index.html"), "a task writes where its connection says"
    assert make(in_shell(own)).page.endswith("/pages/ferries/index.html")


def test_files_of_the_page_before_go_and_a_kill_leaves_a_page_that_is_whole(
    put: Any, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(DAY)
    make(own)
    before = files(own)
    put(DAY, shift=0.1)

    def killed(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PublicFolder, "put_page", killed)
        with pytest.raises(KeyboardInterrupt):
            make(own)
    assert files(own).items() >= before.items()  # the old page has its own files
    assert lines(own)[0]["score"] == "0.1"
    make(own)
    assert lines(own)[0]["score"] == "0.2"
    assert set(files(own)) == {"index.html", *re.findall(r'href="([^"#]+)"', page(own))}


def test_the_page_follows_readers_back_and_says_when_there_is_nothing(
    put: Any, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpublishing, "load_project", lambda _: SHOWN)
    put(DAY)
    put(NEXT)
    make(own)
    unpublish(LATE, Interval.of(NEXT), own)
    assert "Run date 2013-03-01: 4 predictions" in Structure(page(own)).text
    unpublish(LATE, Interval.of(DAY), own)
    assert "No predictions are in this page." in Structure(page(own)).text
    assert set(files(own)) == {"index.html"}

    put(DAY)
    make(own)
    monkeypatch.setattr(step, "make_public_page", lambda _: 1 / 0)
    with pytest.raises(ActionRequiredError, match=r"(?s)readers of the database see the change.*public_page --p"):
        unpublish(LATE, Interval.of(DAY), own)
    with postgres.connection.engine(own).connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM published").scalar() == 0


def test_of_two_writers_the_last_one_shows_what_readers_see(
    put: Any, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(DAY)
    write_at_once(monkeypatch, PublicFolder, "put_page", lambda: make(own), lambda: put(DAY, shift=0.1))
    assert lines(own)[0]["score"] == "0.2"


def test_the_rows_are_of_one_moment(put: Any, own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    put(DAY)

    def overtaken(*given: Any) -> Any:
        found = read_newest(*given)
        put(DAY, rows=9, shift=0.1)  # another batch is published while the page is made
        return found

    monkeypatch.setattr(step, "read_newest", overtaken)
    make(own)
    assert "Run date 2013-03-01: 4 predictions" in Structure(page(own)).text
    assert len(lines(own)) == 4


def test_the_history_has_the_measures_of_each_run_date(put: Any, own: Settings) -> None:
    put(DAY)
    put(NEXT)
    measured = [
        {"model": "late_ferry", "day": DAY, "slice": "all", "slice_value": "", "metric": name, "value": 0.25, "rows": 4}
        | {"model_version": 1, "digest": "d", "run_id": "r", "measured_at": datetime.now(UTC)}
        for name in ("log_loss", "accuracy")
    ]
    with postgres.connection.engine(own).begin() as connection:
        connection.execute(postgres.schema.performance_daily.insert(), measured)
    make(own)
    [name] = re.findall(r'href="(late_ferry-history[^"]+\.csv)"', page(own))
    assert files(own)[name].decode("utf-8-sig").splitlines() == [
        "day,model_version,predictions,known_outcomes,log_loss,accuracy",
        "2013-03-01,1,4,4,0.25,0.25",
        "2013-03-02,1,4,,,",
    ]


def test_a_project_without_a_page_or_with_a_model_that_is_not_there_is_refused(own: Settings) -> None:
    with pytest.raises(ConfigError, match=r"project.yaml: it declares no public_page"):
        make(own, load_project("ferries"))
    wrong = SHOWN.model_copy(update={"public_page": PublicPage(models=("late_fery",))})
    with pytest.raises(ConfigError, match=r"public_page.models: there is no model 'late_fery'.*late_ferry"):
        make(own, wrong)


def test_the_command_makes_it_and_publishing_by_hand_too_and_both_are_recorded(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "load_project", lambda _: SHOWN)
    small.prepare(settings, SHOWN, DAY)
    small.promoted(settings, LATE.name, 1, DAY)
    small.score(settings, SHOWN, LATE.name, DAY)
    asked = [["public_page", "--project", "ferries"], ["publish", "--model", "late_ferry", "--start", str(DAY)]]
    for words, said in zip(
        asked, ("No predictions are in this page.", "Run date 2013-03-01: 4 predictions"), strict=True
    ):
        done = CliRunner().invoke(cli.app, words, env=settings.variables())
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["interval"], "one record, also where publishing writes the page too"
        assert said in Structure(page(settings)).text
    recorded = small.select(settings, "SELECT state, project FROM step_runs WHERE step = 'public_page'")
    assert recorded == [{"state": "success", "project": "ferries"}] * 2
