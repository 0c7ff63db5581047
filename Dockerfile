# The service. Build arguments: BASE, an image with Debian's or Python's own python3 (3.11 or newer);
# ACCELERATOR, cpu or cuda: which lock file of docker/ is installed. See docs/docker.md.
ARG BASE=docker.io/library/python:3.12-slim-bookworm

FROM ${BASE} AS build
ARG ACCELERATOR=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
# pip and the build backend stay in /opt/build; /opt/nngp-prior, which is copied below, has neither.
COPY docker/build.lock docker/
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --no-deps --require-hashes -r docker/build.lock \
    && python3 -m venv --without-pip /opt/nngp-prior
COPY docker/${ACCELERATOR}.lock docker/
RUN /opt/build/bin/pip --python /opt/nngp-prior/bin/python install --no-deps --require-hashes -r docker/${ACCELERATOR}.lock
COPY pyproject.toml README.md LICENSE ./
COPY api api
COPY nngp_prior nngp_prior
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/build/bin/pip --python /opt/nngp-prior/bin/python install --no-deps --root /project dist/*.whl

FROM ${BASE}
LABEL org.opencontainers.image.title="nngp-prior" \
      org.opencontainers.image.description="How probable is this labelling under a neural network's prior? The service." \
      org.opencontainers.image.licenses="MIT"
RUN groupadd --gid 1000 nngp \
    && useradd --uid 1000 --gid 1000 --no-create-home --home-dir /data --shell /usr/sbin/nologin nngp \
    && install --directory --owner 1000 --group 1000 --mode 0700 /data
# A layer for the dependencies, and a small one for the project, which alone changes with its code.
COPY --from=build /opt/nngp-prior /opt/nngp-prior
COPY --from=build /project /
# Inside, all addresses: the port is published on the host's loopback. HOME and temporary files: the root file system may
# be read-only.
ENV PATH=/opt/nngp-prior/bin:${PATH} PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HOME=/data NNGP_HOME=/data NNGP_HOST=0.0.0.0 NNGP_PORT=8000
USER 1000:1000
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client, os; service = http.client.HTTPConnection('127.0.0.1', int(os.environ['NNGP_PORT']), timeout=5); service.request('GET', '/readyz'); raise SystemExit(service.getresponse().status != 200)"]
ENTRYPOINT ["nngp-prior"]
CMD ["serve"]
