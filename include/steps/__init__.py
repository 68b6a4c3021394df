"""The steps of the pipeline, one public function in each file.

In order: land, validate, build_features, fit, evaluate, gate, promote, score, publish, outcomes, monitor. A step takes
(config, interval, settings, …) and returns a small frozen record of `include.core.records`. It may be killed at any
point and run again, and two runs for the same interval may overlap: the result has the same rows. What on-call runs by
hand belongs in `include.operations`.
"""
