"""What the accounts of the containers' store may do; tests/containers/test_access.py tries it on the store."""

from tools.store_rights import policies

ACCOUNTS = ["tasks-1", "mlflow-2", "triggerer-3", "supplier-4", "supplier-acme-5"]
PLACES = {
    "landing": "s3://inbox",
    "tables": "s3://product/tables",
    "artifacts": "s3://product/artifacts",
    "journal": "s3://product/journal",
}


def allowed(account: str, *, simulates: bool = False) -> set[tuple[str, str]]:
    """Return what an account may do: actions and resources."""
    statements = [
        each for policy in policies(PLACES, ACCOUNTS, simulates=simulates).values() for each in policy["Statement"]
    ]
    assert {each["Effect"] for each in statements} == {"Allow"}
    return {
        (action, statement["Resource"].removeprefix("arn:aws:s3:::"))
        for statement in statements
        if account in statement["Principal"]["AWS"]
        for action in statement["Action"]
    }


def test_a_supplier_can_only_put() -> None:
    for supplier in ("supplier-4", "supplier-acme-5"):
        assert {resource for _, resource in allowed(supplier)} == {"inbox/*"}
        assert {action for action, _ in allowed(supplier)} == {
            "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"
        }  # fmt: skip


def test_pages_only_read_artifacts() -> None:
    assert allowed("mlflow-2") == {("s3:GetObject", "product/artifacts/*"), ("s3:ListBucket", "product")}


def test_the_triggerer_only_sees_names_in_landing() -> None:
    assert allowed("triggerer-3") == {("s3:ListBucket", "inbox")}


def test_tasks_put_into_landing_only_where_deliveries_are_simulated() -> None:
    assert ("s3:GetObject", "inbox/*") in allowed("tasks-1")
    assert ("s3:PutObject", "inbox/*") not in allowed("tasks-1")
    assert ("s3:PutObject", "inbox/*") in allowed("tasks-1", simulates=True)
    assert ("s3:DeleteObject", "inbox/*") not in allowed("tasks-1", simulates=True)


def test_names_are_seen_only_below_the_place() -> None:
    of_pages = [
        each
        for each in policies(PLACES, ACCOUNTS, simulates=False)["product"]["Statement"]
        if each["Principal"]["AWS"] == ["mlflow-2"] and each["Action"] == ["s3:ListBucket"]
    ]
    assert [each["Condition"] for each in of_pages] == [{"StringLike": {"s3:prefix": ["artifacts/*", "artifacts"]}}]


def test_places_of_one_bucket_share_its_policy() -> None:
    together = policies(PLACES | {"landing": "s3://product/landing"}, ACCOUNTS, simulates=False)
    assert list(together) == ["product"]
    assert {resource for each in together["product"]["Statement"] for resource in [each["Resource"]]} == {
        "arn:aws:s3:::product", *(f"arn:aws:s3:::product/{place}/*" for place in PLACES)
    }  # fmt: skip
