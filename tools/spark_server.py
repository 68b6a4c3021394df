"""The Spark Connect server that tasks share, in the local stack and in the image.

In the image, `python -m tools.spark_server serve` runs it with an archive of its classes, which `archive` makes when
the image is built: the JVM maps the archive instead of reading, checking and linking each class. An archive requires a
class path without folders, so in the image the settings of `include/io/spark_conf` are passed by name.

A client runs code as the server's user. So the server asks for a token, which it gets in its environment: everyone on
the machine can read a command line.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

SPARK_HOME = Path(str(find_spec("pyspark").origin)).parent  # type: ignore[union-attr]  # it is locked
CONF = Path(__file__).resolve().parents[1] / "include" / "io" / "spark_conf"
# Without PYSPARK_PYTHON, its Python workers would run the `python3` of PATH, of any version.
OWN_PYTHON = {"SPARK_HOME": str(SPARK_HOME), "PYSPARK_PYTHON": sys.executable}
SPARK_SETTINGS = OWN_PYTHON | {"SPARK_CONF_DIR": str(CONF)}

TOKEN_FILE = "NIGHTLY_SPARK_TOKEN_FILE"
"""The variable that names the file with the token of the server and its clients. Without it, no token is asked for."""

PORT = 15002
CLASSES = Path(os.environ.get("NIGHTLY_SPARK_CLASSES", "/opt/spark-classes.jsa"))

JOB = """
import time
from pyspark.sql import SparkSession, functions as F
from pyspark.sql.window import Window

for _ in range(120):
    try:
        spark = SparkSession.builder.remote("sc://127.0.0.1:{port}").getOrCreate()
        break
    except Exception:  # it is still starting
        time.sleep(0.5)
days = spark.range(1000).select((F.col("id") % 5).alias("day"), F.col("id").alias("key"), F.rand(1).alias("x"))
window = Window.partitionBy("day").orderBy("key").rowsBetween(-3, -1)
made = days.withColumn("mean_x", F.avg("x").over(window)).join(days.groupBy("day").count(), "day")
made.repartition("day").sortWithinPartitions("key").write.partitionBy("day").parquet("{folder}/table")
assert spark.read.parquet("{folder}/table").count() == 1000
spark.stop()
"""


def with_token(token: str) -> dict[str, str]:
    """Return the variables by which a server asks its clients for a token."""
    return {"SPARK_CONNECT_AUTHENTICATE_TOKEN": token}


def spark_server(port: int, address: str = "127.0.0.1") -> list[str]:
    """Return the command of a server, to run with SPARK_SETTINGS: pip's pyspark lacks start-connect-server.sh."""
    binding = {"address": address, "port": port}
    options = [f"--conf=spark.connect.grpc.binding.{name}={value}" for name, value in binding.items()]
    main = "org.apache.spark.sql.connect.service.SparkConnectServer"
    return [str(SPARK_HOME / "bin" / "spark-submit"), "--class", main, *options]


def serve() -> None:
    """Replace this process by the server, which listens for other containers.

    What a killed one left goes first: what its jobs had spilled to disk may be rows of people.
    """
    os.umask(0o077)
    if own := os.environ.get("SPARK_LOCAL_DIRS"):
        for pattern in ("blockmgr-*", "spark-*"):
            for left in Path(own).glob(pattern):
                shutil.rmtree(left)
    program, *arguments = _command("0.0.0.0")
    file = os.environ.get(TOKEN_FILE)
    token = with_token(_read_token(Path(file))) if file else {}
    os.execve(program, [program, *arguments], _environment(token, f"-XX:SharedArchiveFile={CLASSES}"))


def archive() -> None:
    """Run a server for a job like that of a nightly run; when it ends, it writes the archive of its classes."""
    with tempfile.TemporaryDirectory() as folder:
        environment = _environment({"SPARK_LOCAL_DIRS": folder}, f"-XX:ArchiveClassesAtExit={CLASSES} -Xlog:disable")
        server = subprocess.Popen(_command("127.0.0.1"), env=environment, cwd=folder)
        try:
            subprocess.run([sys.executable, "-c", JOB.format(port=PORT, folder=folder)], check=True, timeout=300)
        finally:
            server.terminate()
            server.wait(timeout=120)
    if not CLASSES.exists():
        raise FileNotFoundError(f"the server wrote no {CLASSES}; see its output above")


def _read_token(file: Path) -> str:
    token = file.read_text(encoding="utf-8").strip()
    if not token:
        raise SystemExit(f"{file} is empty, but {TOKEN_FILE} says that it has the token of the Spark server")
    return token


def _command(address: str) -> list[str]:
    program, *arguments = spark_server(PORT, address)
    return [program, f"--properties-file={CONF / 'spark-defaults.conf'}", *arguments]


def _environment(more: Mapping[str, str], java_options: str) -> dict[str, str]:
    logging = f"-Dlog4j2.configurationFile={CONF / 'log4j2.properties'}"
    own = {
        **OWN_PYTHON,
        "SPARK_CONF_DIR": "/var/empty",
        "SPARK_SUBMIT_OPTS": f"{java_options} {logging}",
    }
    return {**os.environ, **own, **more}


if __name__ == "__main__":
    {"serve": serve, "archive": archive}[sys.argv[1]]()
