"""Give Airflow a home folder and the plugins of the repository, before its first import."""

import os
import sys

from tests.dags.conftest import ROOT, bag

__all__ = ["bag"]

PLUGINS = ROOT / "plugins"
os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"] = str(PLUGINS)
if str(PLUGINS) not in sys.path:
    sys.path.append(str(PLUGINS))  # as Airflow itself does
