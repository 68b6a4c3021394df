"""What YAML declares: `project.yaml` and `model.yaml` as frozen records, and how they are loaded.

The settings of a gate, of monitoring and of training belong to those folders; here they are put together.
"""
