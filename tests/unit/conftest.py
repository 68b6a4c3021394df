"""Unit tests work with the projects of the tests."""

from tests.own_projects import use_own_projects

use_own_projects()
