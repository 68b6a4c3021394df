"""The training report: one page about a version, from the evidence that a step collected. Pure: nothing is read here.

- `subject`: what a report is about.
- `measures`: metrics with intervals, slices, costs, importances, partial dependence, what moved.
- `inputs`: how the inputs are distributed, and what is unusual about them.
- `page`: the page, and the facts that the model card takes.
"""
