"""Operations that on-call runs by hand: check, outdated, preflight, reproduce, revalidate, unpublish and simulate.

An operation may use steps; no step knows an operation. What every nightly run does belongs in `include.steps`.
"""
