"""Unit tests work with the projects of the tests."""

from hypothesis import settings

from tests.own_projects import use_own_projects

use_own_projects()
# The time of one example says nothing on a busy machine.
settings.register_profile("nightly", deadline=None)
settings.load_profile("nightly")
