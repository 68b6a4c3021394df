"""What on-call asks for by hand: check, outdated days, preflight, reproduce, revalidate, unpublish, simulate.

An operation may use steps; no step knows an operation.
"""
