"""What a training sees, what decides a fit, and how good a fit is. Pure functions of frames.

Fitting itself belongs in `include/steps/fit.py`, reading labelled rows in `include/io/training_sets.py`.
"""
