"""What a task tells Airflow's OpenLineage provider: the tables, feeds and models that its step read and wrote.

Nothing is sent unless a transport is configured (docs/lineage.md); then the provider asks the task when it has ended.
"""

from typing import Any

from include.config.loading import load_project
from include.config.model import Model
from include.core.project import Project
from include.core.records import StepResult

ASKED = "get_openlineage_facets_on_complete"
"""The method of an operator that the provider calls when its task has ended."""


def remember(task: Any, step: str, config: Project | Model, result: StepResult) -> None:
    """Let the running task answer the provider with what its step read and wrote."""
    setattr(task, ASKED, lambda _: facets(step, config, result))


def facets(step: str, config: Project | Model, result: StepResult) -> Any:
    """Return what a step read and wrote, as the provider takes it."""
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import Dataset, InputDataset, OutputDataset
    from openlineage.client.facet_v2 import dataset_version_dataset, output_statistics_output_dataset

    from include.runner.datasets import NAMESPACE, StepDataset, datasets_of

    def version(each: StepDataset) -> dict[str, Any]:
        if each.version is None:
            return {}
        return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=each.version)}

    def output(each: StepDataset) -> Dataset:
        counted: dict[str, Any] = {}
        if each.rows is not None:
            statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=each.rows)
            counted = {"outputStatistics": statistics}
        return OutputDataset(namespace=NAMESPACE, name=each.name, facets=version(each), outputFacets=counted)

    project = load_project(config.project) if isinstance(config, Model) else config
    found = datasets_of(step, config, project, result)
    inputs = [InputDataset(namespace=NAMESPACE, name=each.name, facets=version(each)) for each in found.inputs]
    return OperatorLineage(inputs=inputs, outputs=[output(each) for each in found.outputs])
