# syntax=docker/dockerfile:1
# One image for everything: webserver, daemon, code server, workers, run pods and the command line. No engine is needed
# to check it: a test runs these steps in a clean folder, and hadolint reads them.
#   docker build -t datasense-assets:0.1.0 .
# Give the base by digest for builds that are to be the same in a year:
#   docker build --build-arg PYTHON_IMAGE=python:3.11.14-slim-bookworm@sha256:... -t datasense-assets:0.1.0 .
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm
# of the server in docker-compose.yml: its client programs go into the image, for `datasense backup`, `restore` and `move`
ARG POSTGRES_IMAGE=postgres:18.1-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/datasense
# The dependencies change seldom, so they are a layer of their own: the package is installed as yet without its code.
COPY setup.py pyproject.toml constraints.txt README.md ./
RUN /opt/datasense/bin/python -m pip install --constraint constraints.txt .
COPY datasense_assets ./datasense_assets
RUN /opt/datasense/bin/python -m pip install --no-deps --force-reinstall .
# Compiled once here and not at each start, which would take as long as all the rest of it; pip is not needed any more.
RUN /opt/datasense/bin/python -m pip uninstall --quiet --yes pip setuptools \
    && /opt/datasense/bin/python -m compileall -q -j 0 /opt/datasense/lib

# Debian's own are of an older version, which refuses a newer server. The few libraries that they are linked with stand
# beside them, where nothing else of the image finds them.
FROM ${POSTGRES_IMAGE} AS client
SHELL ["/bin/bash", "-e", "-o", "pipefail", "-c"]
WORKDIR /client/lib
RUN mkdir /client/bin \
    && cp "/usr/lib/postgresql/18/bin/pg_dump" "/usr/lib/postgresql/18/bin/pg_restore" . \
    && ldd pg_dump pg_restore | awk '$3 ~ "^/" && $3 !~ "/lib(c|m|pthread|dl|rt)[.]so" {print $3}' | sort -u | xargs cp -L -t . \
    && for name in pg_dump pg_restore; do \
         printf '#!/bin/sh\nLD_LIBRARY_PATH=/usr/lib/postgresql/client/lib exec /usr/lib/postgresql/client/lib/%s "$@"\n' "$name" > "/client/bin/$name" \
         && chmod 755 "/client/bin/$name"; \
       done

FROM ${PYTHON_IMAGE}
ENV PATH=/opt/datasense/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DAGSTER_HOME=/opt/dagster/dagster_home \
    DAGSTER_DISABLE_TELEMETRY=1 \
    DATASENSE_ENV=production \
    DATASENSE_HOME=/var/lib/datasense \
    DATASENSE_FILES_ROOT=/srv/datasense/files
# The number is what Kubernetes sees: it refuses a name where a pod must not be root.
RUN groupadd --gid 10001 datasense \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/datasense --create-home --shell /usr/sbin/nologin datasense \
    && install -d -o datasense -g datasense /opt/dagster/dagster_home /srv/datasense/files
COPY --from=build /opt/datasense /opt/datasense
COPY --from=client /client /usr/lib/postgresql/client
COPY --chown=10001:10001 dagster.yaml /opt/dagster/dagster_home/dagster.yaml
COPY --chown=10001:10001 deploy/compose/workspace.yaml /opt/dagster/dagster_home/workspace.yaml
USER 10001:10001
WORKDIR /var/lib/datasense
EXPOSE 3000 3030
# Of the code server, which the image is when nothing else is asked of it; others bring checks of their own. It is not
# started where the doctor says that what is set cannot hold.
HEALTHCHECK --interval=60s --timeout=20s --start-period=120s --retries=3 \
    CMD ["dagster", "api", "grpc-health-check", "-p", "3030"]
CMD ["datasense", "doctor", "--", "dagster", "code-server", "start", "-h", "0.0.0.0", "-p", "3030", "-m", "datasense_assets.definitions"]
