"""What all pages and charts of the product are made of: their frame, their look, and charts as SVG.

It needs jinja2 and the standard library only, so that both `include` and the plugins of Airflow import it. It belongs
to the distribution of the plugins, and the wheel carries a copy. What a page says does not belong here.

- `page`: the frame of a page: its head, its policy, its style sheet.
- `charts`: the charts. Nothing else in the product draws.
"""
