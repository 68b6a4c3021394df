"""Who may see what: the pages follow the rights to DAGs that Airflow's own pages follow.

A model belongs to the DAG `<model>_score`, a project and its feeds to `<project>_prepare`. Who may not see the DAG
gets neither the page nor a row about it elsewhere.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.models.dag import DagModel
from fastapi import HTTPException, status

OF_PROJECT = ("prepare", "monitor", "backfill_range", "simulate")
"""The DAGs of a project: what follows its name."""

OF_MODEL = ("score", "train", "decide", "approve", "rollback")
"""The DAGs of a model: what follows its name."""


@dataclass(frozen=True)
class Access:
    """What one user may see."""

    dags: frozenset[str]

    def model(self, model: str) -> bool:
        """Return whether the user may see a model."""
        return f"{model}_score" in self.dags

    def project(self, project: str) -> bool:
        """Return whether the user may see a project."""
        return f"{project}_prepare" in self.dags

    def models(self, models: Iterable[str]) -> list[str]:
        """Return those that the user may see."""
        return [model for model in models if self.model(model)]

    def require_model(self, model: str) -> None:
        """Refuse with 403, whether the model exists or not."""
        self.require_dag(f"{model}_score")

    def require_project(self, project: str) -> None:
        """Refuse with 403, whether the project exists or not."""
        self.require_dag(f"{project}_prepare")

    def require_dag(self, dag_id: str) -> None:
        """Refuse with 403, whether the DAG exists or not."""
        if dag_id not in self.dags:
            raise HTTPException(
                status.HTTP_403_FORBIDDEN,
                f"You may not see the DAG {dag_id}, or Airflow does not know it. Ask an administrator of Airflow for "
                "the right to read it.",
            )


def find_access(user: GetUserDep) -> Access:
    """Return what the user of a request may see; without a login, Airflow refuses with 401."""
    return Access(frozenset(get_auth_manager().get_authorized_dag_ids(user=user, method="GET")))


def may_start(user: GetUserDep, dag_id: str) -> bool:
    """Return whether the user may start a DAG; Airflow asks again when it is started."""
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    allowed: bool = get_auth_manager().is_authorized_dag(
        method="POST", access_entity=DagAccessEntity.RUN, details=details, user=user
    )
    return allowed
