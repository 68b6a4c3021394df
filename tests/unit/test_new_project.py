"""`make new-project`: what is found in example files, and what is refused."""

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
import yaml

from include.core.errors import ActionRequiredError
from include.core.formats.csv import Csv
from include.core.formats.parquet import Parquet
from include.core.project import Project
from tests.bakery import write, write_examples
from tools.new_project.__main__ import find, main
from tools.new_project.columns import FoundColumn, find_columns, shape
from tools.new_project.files import FeedFiles, find_feeds
from tools.new_project.relations import find_feed
from tools.new_project.write import dropped, render

ZONE = "Europe/Berlin"
DAY = date(2026, 3, 4)
AMOUNTS = [(11, "a", "x"), (12, "a", "y"), (13, "b", "x"), (14, "b", "y")]


def found(texts: list[str | None], name: str = "value", day: date = DAY) -> tuple[FoundColumn, Csv, list[str]]:
    rows = pl.DataFrame({name: texts, "_day": [day] * len(texts)}, schema={name: pl.String, "_day": pl.Date})
    [column], declared, checks = find_columns(rows, [name], [], Csv(), ZONE)
    assert isinstance(declared, Csv)
    return column, declared, checks


class TestColumns:
    @pytest.mark.parametrize(
        ("texts", "kind", "line"),
        [
            (["1", "20", "-3"], "integer", "format: {kind: csv}"),
            (["1.5", "20"], "double", "format: {kind: csv}"),
            (["1,5", "20,25"], "double", 'format: {kind: csv, decimal: ","}'),
            (["1.234,5", "2,25"], "double", 'format: {kind: csv, decimal: ",", thousands: "."}'),
            (["0123", "4567"], "string", "format: {kind: csv}"),
            (["1", "NA", "NULL", "3"], "integer", 'format: {kind: csv, null_values: [NA, "NULL"]}'),
            (["ja", "nein", "ja"], "boolean", "format: {kind: csv, true_values: [ja], false_values: [nein]}"),
            (["true", "false"], "boolean", "format: {kind: csv}"),
            (["1", "0"], "integer", "format: {kind: csv}"),
            (["2026-03-04", "2026-03-05"], "date", "format: {kind: csv}"),
            (["04.03.2026", "28.02.2026"], "date", 'format: {kind: csv, date: "%d.%m.%Y"}'),
            (["2026-03-04T08:00:00Z"], "timestamp", "format: {kind: csv}"),
            (["2026-03-04T08:00:00"], "timestamp", "format: {kind: csv, timezone: Europe/Berlin}"),
            (
                ["04.03.2026 08:15"],
                "timestamp",
                'format: {kind: csv, timestamp: "%d.%m.%Y %H:%M", timezone: Europe/Berlin}',
            ),
            (["north", "south"], "string", "format: {kind: csv}"),
            ([None, None], "string", "format: {kind: csv}"),
        ],
    )
    def test_types_and_how_values_are_written(self, texts: list[str | None], kind: str, line: str) -> None:
        column, declared, checks = found(texts)
        assert (column.type, column.data_class) == (kind, "public")
        assert declared.line() == line
        assert checks == []

    def test_the_day_of_the_file_decides_between_day_and_month(self) -> None:
        assert found(["03/04/2026"], day=date(2026, 4, 3))[1].date == "%d/%m/%Y"
        assert found(["03/04/2026"], day=date(2026, 3, 4))[1].date == "%m/%d/%Y"

    def test_what_the_examples_do_not_tell_is_said(self) -> None:
        _, _, [check] = found(["03/04/2026"], day=date(2026, 12, 31))
        assert check == "dates such as 03/04/2026 fit %d/%m/%Y and %m/%d/%Y: the examples do not tell which"
        _, _, [check] = found(["1,234", "5,678"])
        assert check.startswith("numbers could also be written with")

    @pytest.mark.parametrize(
        ("name", "texts", "data_class"),
        [
            ("value", ["a@example.org", "b@example.org"], "sensitive"),
            ("value", ["+49 30 1234567", "+49 171 2345678"], "sensitive"),
            ("value", ["DE02120300000000202051"], "sensitive"),
            ("firstName", ["Ada"], "sensitive"),
            ("customer_name", ["Ada Lovelace"], "sensitive"),
            ("geburtsdatum", ["1990-01-01"], "sensitive"),
            ("customer_id", ["C10001", "C10002"], "identifier"),
            ("Kundennummer_kunde", ["77"], "identifier"),
            ("customer_count", ["3", "4"], "public"),
            ("store_name", ["North", "South"], "public"),
            ("order_id", ["1", "2"], "public"),
        ],
    )
    def test_personal_data_is_suspected(self, name: str, texts: list[str | None], data_class: str) -> None:
        column, _, _ = found(texts, name)
        assert column.data_class == data_class
        assert (column.check != "") == (data_class != "public")
        if data_class == "identifier":
            assert column.type == "string"
            assert column.format is not None

    @pytest.mark.parametrize(
        ("texts", "form"),
        [
            (["S001", "S012"], "[A-Z][0-9]{3}"),
            (["A-1", "BC-22"], "[A-Z]{1,2}\\-[0-9]{1,2}"),
            (["a1", "1a", "b-c"], "[0-9a-z-]{2,3}"),
            (["two words", "three more words"], None),
        ],
    )
    def test_the_form_of_texts(self, texts: list[str], form: str | None) -> None:
        assert shape(pl.Series(texts)) == form


class TestFiles:
    @pytest.mark.parametrize(
        ("keys", "name", "pattern"),
        [
            (["sales/2026-03-04.csv", "sales/2026-03-05.csv"], "sales", "sales/{day}.csv"),
            (["sales/2026/03/04/x.csv", "sales/2026/03/05/x.csv"], "sales", "sales/{day:%Y/%m/%d}/x.csv"),
            (["sales_20260304.csv", "sales_20260305.csv"], "sales", "sales_{day:%Y%m%d}.csv"),
            (["s/2026-03-04/a1.csv", "s/2026-03-05/b2.csv"], "s", "s/{day}/*.csv"),
            (["s/2026-03-04-00.csv", "s/2026-03-04-01.csv", "s/2026-03-04-23.csv"], "s", "s/{day}-{hour}.csv"),
            (["s/2026-03-04/p-1.csv", "s/2026-03-04/p-2.csv"], "s", "s/{day}/p-{part}.csv"),
            (["stores/all.csv"], "stores", "stores/all.csv"),
        ],
    )
    def test_the_path_of_a_feed(self, tmp_path: Path, keys: list[str], name: str, pattern: str) -> None:
        for key in keys:
            write(tmp_path / key, b"id,value\n1,2\n")
        [feed] = find_feeds(tmp_path)
        assert (feed.name, feed.pattern) == (name, pattern)
        assert len(feed.examples) == len(keys)

    def test_files_with_other_columns_are_other_feeds(self, tmp_path: Path) -> None:
        write(tmp_path / "2026-03-04_orders.csv", b"id,value,day\n1,2,3\n")
        write(tmp_path / "2026-03-04_items.csv", b"item,price,size\n1,2,3\n")
        assert [feed.name for feed in find_feeds(tmp_path)] == ["items", "orders"]

    def test_a_column_that_a_file_lacks_is_optional(self, tmp_path: Path) -> None:
        write(tmp_path / "s/2026-03-04.csv", b"a,b,c,d\n1,2,3,4\n")
        write(tmp_path / "s/2026-03-05.csv", b"a,b,c,d,e\n1,2,3,4,5\n")
        [feed] = find_feeds(tmp_path)
        assert (feed.names, feed.optional) == (("a", "b", "c", "d", "e"), frozenset({"e"}))
        assert feed.rows()["e"].to_list() == [None, "5"]

    @pytest.mark.parametrize(
        ("path_day", "said"), [(-1, "the day before that of their rows"), (1, "the day after that of their rows")]
    )
    def test_files_named_by_a_neighbour_of_their_day(self, tmp_path: Path, path_day: int, said: str) -> None:
        days = [DAY + timedelta(days=n) for n in range(5)]
        for day in days:
            named = day + timedelta(days=path_day)
            write(tmp_path / f"plan/{named}.csv", f"store,day,made\nS1,{day:%d.%m.%Y},2026-01-01\n".encode())
        [files] = find_feeds(tmp_path)
        feed = find_feed(files, ZONE)
        assert (feed.files.days, feed.day_column) == (days, "day")
        assert isinstance(feed.files, FeedFiles)
        assert (feed.files.path_day, feed.files.pattern) == (path_day, "plan/{day}.csv")
        assert feed.rows["_day"].to_list() == days
        assert f"files are named by {said}, which day says" in feed.checks

    def test_a_date_beside_the_day_of_the_file_is_said(self, tmp_path: Path) -> None:
        for n in range(5):
            day = DAY + timedelta(days=n)
            write(tmp_path / f"plan/{day}.csv", f"store,made,day\nS1,{day},{day + timedelta(days=1)}\n".encode())
        feed = find_feed(find_feeds(tmp_path)[0], ZONE)
        assert (feed.day_column, feed.files.days[0]) == ("made", DAY)
        said = "day is always the day after made; if it is the day of the rows, write `path_day: -1` and "
        assert feed.checks == (f"{said}`day_column: day`",)

    def test_days_further_away_are_no_days_of_the_file(self, tmp_path: Path) -> None:
        for n in range(5):
            day = DAY + timedelta(days=n)
            write(tmp_path / f"plan/{day}.csv", f"store,day\nS1,{day + timedelta(days=2)}\n".encode())
        with pytest.raises(ActionRequiredError, match="no column has the day of the file"):
            find_feed(find_feeds(tmp_path)[0], ZONE)

    def test_sidecars_hidden_files_and_markers_are_no_feeds(self, tmp_path: Path) -> None:
        write(tmp_path / "s/2026-03-04.csv", b"a,b\n1,2\n")
        write(tmp_path / "s/2026-03-04.csv.json", json.dumps({"rows": 1}).encode())
        write(tmp_path / "s/_SUCCESS.csv", b"")
        write(tmp_path / ".git/x.csv", b"a,b\n1,2\n")
        assert len(find_feeds(tmp_path)) == 1

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("x.csv", b"1,2\n3,4\n", "the first line is no header"),
            ("x.json", b'[{"a": 1}]', "a JSON array; ask for JSON lines"),
            ("x.csv.gz", b"a,b\n", "the file is not gzip, as its name says"),
            ("x.pdf", b"", "has no example files"),
        ],
    )
    def test_what_cannot_be_read_is_said(self, tmp_path: Path, name: str, content: bytes, said: str) -> None:
        write(tmp_path / name, content)
        with pytest.raises(ActionRequiredError, match=said):
            find_feeds(tmp_path)


class TestProject:
    def test_a_key_is_not_made_of_persons_or_amounts(self, tmp_path: Path) -> None:
        """In so few rows, each alone would identify a row too."""
        lines = [f"{amount},C{amount},{shop},{item},2026-03-04" for amount, shop, item in AMOUNTS]
        write(tmp_path / "sales/2026-03-04.csv", "\n".join(["amount,customer_id,shop,item,day", *lines]).encode())
        [files] = find_feeds(tmp_path)
        assert find_feed(files, ZONE).key == ("shop", "item")

    def test_what_belongs_together(self, tmp_path: Path) -> None:
        write_examples(tmp_path, 30)
        project = find(tmp_path, ZONE, "", "")
        assert (project.entity.name, project.result.name, project.outcome.name) == ("plan", "sales", "sold")
        assert (project.entity.key, project.entity.day_column) == (("Filiale", "Artikel"), "Liefertag")
        assert (project.result.calendar, project.entity.calendar) == ("mon-sat", None)
        assert (project.groups, project.lookups) == (("Artikel", "Filiale"), ("stores",))
        assert (project.first_day, project.live_from) == (date(2026, 8, 3), date(2026, 9, 2))

    def test_features_have_the_week_before_of_the_whole_key(self, tmp_path: Path) -> None:
        write_examples(tmp_path, 30)
        project = find(tmp_path, ZONE, "", "")
        assert project.history == ("Filiale", "Artikel")
        texts = render(project, "bakery", "Bakery", "us", tmp_path / "projects/bakery")
        assert '            ("Filiale", "Artikel"),' in texts["features.py"]
        model = yaml.safe_load(texts["models/bakery_actual_sold/model.yaml"])
        added = {
            "actual_sold_Filiale_Artikel_lag7",
            "mean_actual_sold_Filiale_Artikel_28d",
            "mean_actual_sold_Filiale_7d",
        }
        assert added <= set(model["numeric"])

    def test_without_history_there_is_no_week_before(self, tmp_path: Path) -> None:
        self.write_orders(tmp_path, lambda n: n % 7, order=lambda day, n: f"{day:%m%d}{n:02d}")
        project = find(tmp_path, ZONE, "", "")
        assert (project.entity.key, project.history) == (("order_id",), ())
        assert "add_lags" not in render(project, "orders", "Orders", "us", tmp_path / "x")["features.py"]

    def write_orders(
        self,
        folder: Path,
        other: Callable[[int], object],
        *,
        late: Callable[[int], object] = lambda n: n % 5,
        order: Callable[[date, int], str] = lambda _, n: f"A{n:02d}",
    ) -> None:
        """Write orders, with a column `other`, and how late each was, of 20 on each of three days."""
        for ago in range(3):
            day = DAY + timedelta(days=ago)
            rows = [(order(day, n), day, other(20 * ago + n), late(20 * ago + n)) for n in range(20)]
            plan = "".join(f"{key},{day},{value}\n" for key, day, value, _ in rows)
            write(folder / f"plan/{day}.csv", f"order_id,day,other\n{plan}".encode())
            result = "".join(f"{key},{day},{value}\n" for key, day, _, value in rows)
            write(folder / f"result/{day}.csv", f"order_id,day,late\n{result}".encode())

    @pytest.mark.parametrize(
        ("other", "late", "leaks"),
        [
            (lambda n: n % 5, lambda n: n % 5, True),
            (lambda n: 7 - n % 5, lambda n: n % 5, True),
            (lambda n: "abcde"[n % 5], lambda n: n % 5, True),
            (lambda n: "yes" if n % 2 else "no", lambda n: n % 2, True),
            (lambda n: 2.5 * n + 0.1, lambda n: n / 4, True),  # nearly every row has a value of its own
            (lambda n: n * 7 % 60 + 0.5, lambda n: n / 4, False),
            (lambda n: n % 5 // 2, lambda n: n % 5, False),
            (lambda n: n % 10, lambda n: n % 5, False),
            (lambda n: 3, lambda n: n % 5, False),
        ],
    )
    def test_a_column_that_says_the_outcome_is_no_feature(
        self, tmp_path: Path, other: Callable[[int], object], late: Callable[[int], object], *, leaks: bool
    ) -> None:
        self.write_orders(tmp_path, other, late=late)
        project = find(tmp_path, ZONE, "plan", "result.late")
        assert project.leaking == (("other",) if leaks else ())
        texts = render(project, "orders", "Orders", "us", tmp_path / "x")
        assert ("in the examples it says the outcome" in texts["project.yaml"]) == leaks
        assert ("# CHECK: no feature may say the outcome" in texts["features.py"]) == leaks
        model = yaml.safe_load(texts["models/orders_actual_late/model.yaml"])
        if leaks:
            assert "other" in dropped(project)
            assert "other" not in [*model["numeric"], *model["categorical"]]

    @pytest.mark.parametrize(
        ("late", "problem_type"),
        [
            (lambda n: n % 2, "binary"),
            (lambda n: n % 5, "count"),
            (lambda n: f"{n % 5}.0", "count"),
            (lambda n: n % 5 - 1, "regression"),
            (lambda n: n % 5 + 0.5, "regression"),
        ],
    )
    def test_the_problem_type_is_that_of_the_values(
        self, tmp_path: Path, late: Callable[[int], object], problem_type: str
    ) -> None:
        self.write_orders(tmp_path, lambda n: n * 3 % 7, late=late)
        project = find(tmp_path, ZONE, "plan", "result.late")
        assert project.problem_type == problem_type
        texts = render(project, "orders", "Orders", "us", tmp_path / "x")
        estimator = texts["models/orders_actual_late/estimator.py"]
        assert "MIN_LABEL_ROWS = 5 " in estimator, "few rows need few for a label"
        assert "min_samples_leaf: int = 8," in estimator

    def test_no_value_that_may_be_personal_is_written(self, tmp_path: Path) -> None:
        write_examples(tmp_path, 30)
        texts = render(find(tmp_path, ZONE, "", ""), "bakery", "Bakery", "us", tmp_path / "projects/bakery")
        assert not [path for path, text in texts.items() if "bäcker.example" in text or "C1" in text]

    def test_a_choice_can_be_named(self, tmp_path: Path) -> None:
        write_examples(tmp_path, 30)
        project = find(tmp_path, ZONE, "sales", "plan.Preis")
        assert (project.entity.name, project.outcome.name, project.outcome_name) == ("sales", "Preis", "actual_preis")
        with pytest.raises(ActionRequiredError, match="there is no feed 'salse' with days; did you mean 'sales'"):
            find(tmp_path, ZONE, "salse", "")
        with pytest.raises(ActionRequiredError, match="sales has no public number 'solt'; did you mean 'sold'"):
            find(tmp_path, ZONE, "plan", "sales.solt")

    def test_one_feed_is_not_enough(self, tmp_path: Path) -> None:
        write(tmp_path / "sales/2026-03-04.csv", b"store,day,sold\n1,2026-03-04,5\n2,2026-03-04,6\n")
        with pytest.raises(ActionRequiredError, match="no two feeds with days fit together"):
            find(tmp_path, ZONE, "", "")

    def test_a_feed_whose_rows_have_no_day_is_refused(self, tmp_path: Path) -> None:
        write(tmp_path / "sales/2026-03-04.csv", b"store,sold\n1,5\n2,6\n")
        with pytest.raises(ActionRequiredError, match=r"no column has the day of the file \(2026-03-04\)"):
            find(tmp_path, ZONE, "", "")


class TestDatabase:
    @pytest.fixture
    def kiosk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        """Make a SQLite database with a plan, sales and shops, and return its file."""
        file = str(tmp_path / "kiosk.db")
        with closing(sqlite3.connect(file)) as database, database:
            database.execute("CREATE TABLE plan (shop text, item text, delivery_day date, amount integer, email text)")
            database.execute("CREATE TABLE sales (shop text, item text, closed_at timestamp, sold real)")
            database.execute("CREATE TABLE shops (shop text, region text)")
            for n in range(60):
                day = date(2026, 8, 3) + timedelta(days=n)
                for shop in ("S1", "S2", "S3"):
                    row = (shop, "bread", str(day), 20 + n, f"{shop}@kiosk.example")
                    database.execute("INSERT INTO plan VALUES (?, ?, ?, ?, ?)", row)
                    database.execute(
                        "INSERT INTO sales VALUES (?, ?, ?, ?)", (shop, "bread", f"{day} 18:00:00", 15.5 + n)
                    )
            database.executemany("INSERT INTO shops VALUES (?, ?)", [("S1", "north"), ("S2", "south"), ("S3", "south")])
        monkeypatch.setenv("NIGHTLY_SOURCES", json.dumps({"kiosk_db": f"sqlite:///{file}"}))
        return file

    @pytest.mark.usefixtures("kiosk")
    def test_tables_become_sql_feeds(self, tmp_path: Path) -> None:
        found = find(None, ZONE, "", "", "kiosk_db", "plan, sales shops")
        assert (found.entity.name, found.result.name, found.outcome.name) == ("plan", "sales", "sold")
        texts = render(found, "kiosk", "Kiosk", "us", tmp_path / "projects/kiosk")
        assert not [path for path, text in texts.items() if "kiosk.example" in text or str(tmp_path) in text]
        declared = yaml.safe_load(texts["project.yaml"])
        project = Project.model_validate({**declared, "name": "kiosk", "folder": tmp_path})
        source = project.feeds["sales"].source
        assert source is not None
        assert (source.connection, source.timezone) == ("kiosk_db", ZONE)
        assert source.query.endswith('FROM "sales" WHERE date("closed_at") = :day')
        assert project.feeds["shops"].is_snapshot
        assert project.feeds["plan"].source and "email" not in project.feeds["plan"].source.query
        assert "# CHECK: email is not selected: values look like e-mail addresses" in texts["project.yaml"]

    @pytest.mark.usefixtures("kiosk")
    def test_files_and_tables_can_be_mixed(self, tmp_path: Path) -> None:
        for n in range(20):
            day = date(2026, 8, 3) + timedelta(days=n)
            write(tmp_path / f"files/weather/{day}.csv", f"day,rain\n{day},{n}.5\n".encode())
        found = find(tmp_path / "files", ZONE, "", "", "kiosk_db", "plan,sales")
        assert set(found.feeds) == {"plan", "sales", "weather"}

    @pytest.mark.parametrize(
        ("connection", "tables", "said"),
        [
            ("kiosk", "plan", "DATABASE=kiosk: the connection is not there; set NIGHTLY_SOURCES"),
            ("postgresql://u:secret@h/d", "plan", "write the name of a connection, not its URL"),
            ("kiosk_db", "plans", "DATABASE=kiosk_db: .*no such table: plans"),
            ("kiosk_db", "plan; DROP TABLE plan", "'DROP'|'plan;' is no name of a table"),
            ("kiosk_db", "plan,empty", "table empty has no rows"),
        ],
    )
    def test_a_wrong_place_is_refused_without_its_password(
        self, kiosk: str, connection: str, tables: str, said: str
    ) -> None:
        with closing(sqlite3.connect(kiosk)) as database, database:
            database.execute("CREATE TABLE empty (a text)")
        with pytest.raises(ActionRequiredError, match=said) as error:
            find(None, ZONE, "", "", connection, tables)
        assert "secret" not in str(error.value)

    def test_parquet_has_dates(self) -> None:
        rows = pl.DataFrame({"value": ["2026-03-04"], "_day": [DAY]})
        [column], _, _ = find_columns(rows, ["value"], [], Parquet(), ZONE)
        assert column.type == "date"


class TestFolder:
    """What is written into a folder of a team's own, which `NIGHTLY_PROJECTS` names."""

    @pytest.fixture
    def examples(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Write example files, and let `NIGHTLY_PROJECTS` name a folder that is not there."""
        write_examples(tmp_path / "examples", 30)
        monkeypatch.setenv("NIGHTLY_PROJECTS", str(tmp_path / "projects"))
        monkeypatch.setattr(
            "tools.new_project.__main__.check", lambda *_: None
        )  # it starts Spark; nothing here needs it
        return tmp_path / "examples"

    def made(self, examples: Path, **options: Any) -> Path:
        folder = examples.parent / "projects"
        main("bakery", ZONE, files=str(examples), folder=folder, yes=True, **options)
        return folder

    def test_a_folder_that_is_named_and_not_there_is_made(
        self, examples: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(typer.Exit):
            self.made(examples, entity="plans")
        assert "did you mean 'plan'" in capsys.readouterr().err
        assert not (examples.parent / "projects").exists()
        folder = self.made(examples)
        assert (folder / "bakery" / "project.yaml").is_file()
        assert "export" not in capsys.readouterr().out

    def test_the_variable_that_names_a_folder_is_said(
        self, examples: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.delenv("NIGHTLY_PROJECTS")
        folder = self.made(examples)
        assert f"export NIGHTLY_PROJECTS={folder}" in capsys.readouterr().out

    def test_the_checks_pass_on_what_is_written(self, examples: Path) -> None:
        """Style and the wall around projects; `make` finds the tests."""
        root, made = Path(__file__).parents[2], examples.parent
        self.made(examples)
        shutil.copy(root / "pyproject.toml", made)
        for command in (["check"], ["format", "--check"]):
            done = ruff(made, *command)
            assert done.returncode == 0, done.stdout
        features = made / "projects" / "bakery" / "features.py"
        features.write_text(f"{features.read_text(encoding='utf-8')}\nimport polars\n", encoding="utf-8")
        assert "a project knows Spark and scikit-learn only" in ruff(made, "check").stdout

        dry = ["make", "--dry-run", "test-bakery-unit", "check", f"NIGHTLY_PROJECTS={made / 'projects'}"]
        done = subprocess.run(dry, cwd=root, capture_output=True, text=True, check=False)
        assert f"{made}/projects/tests/bakery/unit" in done.stdout, done.stderr
        assert re.search(rf"mypy .* {made}/projects$", done.stdout, re.MULTILINE), done.stdout


def ruff(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ruff", *arguments, "projects"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
