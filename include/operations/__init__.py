"""Operations that on-call runs by hand: check, outdated, preflight, reproduce, revalidate, unpublish and simulate.

An operation may use steps, never the other way round. What every nightly run does belongs in `include.steps`.
"""
