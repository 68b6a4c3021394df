"""One public function a file, in pipeline order:
land validate build_features fit evaluate promote score publish outcomes monitor.

A step takes (config, interval, settings, …) and returns a small frozen record of `include.contracts`. It may be
killed at any point and run again, and two of the same interval may overlap: the result is the same to the row.
"""
