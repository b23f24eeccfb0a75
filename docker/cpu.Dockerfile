# syntax=docker/dockerfile:1
# Everything on a CPU: ETL, training, export, and the embedded Triton. docker/README.md has the commands.
#   docker build -f docker/cpu.Dockerfile -t mews-cpu .
#   docker run --rm -v mews:/work mews-cpu demo

# Python 3.11 with venv and its shared library; on Debian: python3-venv and libpython3.11.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /opt/mews
ENV UV_LINK_MODE=copy UV_NO_CACHE=1
COPY requirements/uv.lock requirements/main.lock requirements/triton.lock requirements/
RUN python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir --quiet --require-hashes -r requirements/uv.lock \
    && python3 -m venv --without-pip /opt/mews/.venv \
    && /opt/uv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes --no-deps \
        -r requirements/main.lock -r requirements/triton.lock
COPY pyproject.toml README.md LICENSE ./
COPY etl etl
COPY training training
COPY ensemble ensemble
COPY triton_models triton_models
COPY benchmarks benchmarks
COPY mews mews
RUN /opt/uv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable . \
    && .venv/bin/mews --version

FROM ${BASE}
LABEL org.opencontainers.image.title="mews-cpu" \
      org.opencontainers.image.description="Recommender data to a served model, on CPUs" \
      org.opencontainers.image.licenses="Apache-2.0"
ARG UID=10001
RUN useradd --uid ${UID} --no-create-home --home-dir /tmp --shell /usr/sbin/nologin mews \
    && mkdir -p /work && chown mews:mews /work
COPY --from=build /opt/mews /opt/mews
# What libraries want to write goes to /tmp: the rest of the file system may be read-only.
ENV PATH=/opt/mews/.venv/bin:$PATH HOME=/tmp MPLCONFIGDIR=/tmp NUMBA_CACHE_DIR=/tmp/numba PYTHONDONTWRITEBYTECODE=1
USER ${UID}
WORKDIR /work
VOLUME ["/work"]
# HTTP, gRPC, metrics of `mews serve --set serve.host=0.0.0.0`.
EXPOSE 8000 8001 8002
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=20s --start-period=10s --retries=3 CMD ["mews", "--version"]
ENTRYPOINT ["mews"]
CMD ["demo"]
