"""Routes: who gets a message, by its project, model, severity and owner."""

import pytest
from pydantic import ValidationError

from include.core.outbox import ALERTS, Message
from include.core.routes import Route, Routing, misfits

OWNERS = {"parcels_sold": "demand", "returns": "finance"}


def routing(*routes: Route) -> Routing:
    return Routing(project="shop", owner="data", owners=OWNERS, routes=routes)


ROUTES = routing(
    Route(to="everybody"),
    Route(to="pager", severities=("critical",)),
    Route(to="demand", models=("parcels_sold",)),
    Route(to="finance", owners=("finance",), severities=("critical", "high")),
    Route(to="data", owners=("data",)),
    Route(to="pager", models=("parcels_sold",), severities=("critical",)),
)


@pytest.mark.parametrize(
    ("models", "severity", "expected"),
    [
        (["parcels_sold"], "high", ("everybody", "demand")),
        (["parcels_sold"], "critical", ("everybody", "pager", "demand")),
        (["returns"], "high", ("everybody", "finance")),
        (["returns"], "low", ("everybody",)),
        (["parcels_sold", "returns"], "high", ("everybody", "demand", "finance")),
        (["raw_shop_sales"], "low", ("everybody", "data")),
        ([], "critical", ("everybody", "pager", "data")),
    ],
)
def test_every_route_that_fits_gets_the_message_once(
    models: list[str], severity: str, expected: tuple[str, ...]
) -> None:
    assert ROUTES.destinations(models, severity) == expected  # type: ignore[arg-type]


def test_what_the_project_s_owner_has_to_fix_goes_to_them_and_to_the_models_that_it_affects() -> None:
    expected = ("everybody", "demand", "finance", "data")
    assert ROUTES.destinations(["parcels_sold", "returns"], "high", "data") == expected


def test_a_message_that_fits_no_route_goes_to_the_usual_connection() -> None:
    assert routing().destinations(["parcels_sold"]) == (ALERTS,)
    assert routing(Route(to="pager", severities=("critical",))).destinations(["parcels_sold"], "high") == (ALERTS,)


def test_each_destination_has_a_key_of_its_own_and_the_usual_one_keeps_the_old_key() -> None:
    message = Message.of_text("late", "a", kind="alerts", subject="parcels_sold", run_id="r")
    sent = routing(Route(to=ALERTS), Route(to="pager")).messages(message, ["parcels_sold"], "critical")
    assert [each.destination for each in sent] == [ALERTS, "pager"]
    assert sent[0].key == message.key != sent[1].key
    again = routing(Route(to="pager")).messages(message, ["parcels_sold"], "critical")
    assert [each.key for each in again] == [sent[1].key], "a second run must find its message stored"
    labels = {"project": "shop", "model": "parcels_sold", "owner": "demand", "severity": "critical"}
    assert sent[1].payload == {"text": "late", **labels}


def test_a_name_that_does_not_exist_is_refused_with_the_nearest() -> None:
    routes = [Route(to="pager", models=("parcel_sold",)), Route(to="mail", owners=("demand", "finence"))]
    assert [*misfits(routes, "data", OWNERS)] == [
        "notify.0.models.0: there is no 'parcel_sold'; did you mean 'parcels_sold'?",
        "notify.1.owners.1: there is no 'finence'; did you mean 'finance'?",
    ]
    with pytest.raises(ValidationError, match=r"there is no 'criticl'; did you mean 'critical'\?"):
        Route(to="pager", severities=("criticl",))


@pytest.mark.parametrize("to", ["https://hooks.example.org/token", "mailto://me:pw@host", "", "two words"])
def test_an_address_is_no_connection(to: str) -> None:
    with pytest.raises(ValidationError, match="write the name of an Airflow connection"):
        Route(to=to)
