"""`make ml-test-score`: the 28 tests of Breck et al. 2017, "The ML Test Score", answered from evidence.

`rubric.py` lists the tests with the evidence of each, `evidence.py` says what evidence is and when it counts, and
`__main__.py` prints the score. Nothing here states a result: points come from tests that ran, rows that nightly runs
wrote, declarations, and pages.
"""
