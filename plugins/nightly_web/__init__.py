"""Pages inside Airflow: what each project and model did, how good it is, and what to do next.

The API server serves them below `/nightly`. They read the views of the role `ops_reader` in the shared database, show
only what belongs to DAGs that the user may see, and change nothing.

- `app`: the routes, built at the first request.
- `access`: who may see what, by Airflow's permissions.
- `database`: the views, read in one transaction a page.
- `words`: dates, numbers and names as people read them.
- `today`, `model`, `run_date`, `feed`, `tabs`: one page each, with a template of the same name.

Charts and the frame of pages are in `nightly_pages`. What a page says about a cause, and what to type, comes from the
views: rules of the product do not belong here.
"""
