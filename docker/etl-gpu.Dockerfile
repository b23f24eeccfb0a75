# syntax=docker/dockerfile:1
# Features on NVIDIA GPUs: Polars with cudf-polars, dask-cuda; no TensorFlow, no Merlin. docker/README.md has the commands.
#   docker build -f docker/etl-gpu.Dockerfile -t mews-etl-gpu .
#   docker run --rm --gpus all -v mews:/work mews-etl-gpu etl transform --engine gpu --graph … --input … --out …

# Ubuntu 24.04 has Python 3.12, which requirements/etl-gpu.lock is for. Only the driver's libraries come from outside.
ARG BASE=docker.io/nvidia/cuda:12.9.1-base-ubuntu24.04

FROM ${BASE} AS build
WORKDIR /opt/mews
ENV UV_LINK_MODE=copy UV_NO_CACHE=1 DEBIAN_FRONTEND=noninteractive
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/*
COPY requirements/uv.lock requirements/etl-gpu.lock requirements/
RUN python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir --quiet --require-hashes -r requirements/uv.lock \
    && python3 -m venv --without-pip .venv \
    && /opt/uv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes -r requirements/etl-gpu.lock
COPY pyproject.toml README.md LICENSE ./
COPY etl etl
COPY training training
COPY ensemble ensemble
COPY triton_models triton_models
COPY benchmarks benchmarks
COPY mews mews
# The source is found by its path: its pins for Python 3.11 do not apply here.
RUN echo /opt/mews > "$(.venv/bin/python -c 'import site; print(site.getsitepackages()[0])')/mews.pth" \
    && printf '#!/opt/mews/.venv/bin/python\nfrom mews.cli import main\nmain()\n' > .venv/bin/mews \
    && chmod 0755 .venv/bin/mews

FROM ${BASE}
LABEL org.opencontainers.image.title="mews-etl-gpu" \
      org.opencontainers.image.description="Features of a recommender, computed on GPUs" \
      org.opencontainers.image.licenses="Apache-2.0"
ARG UID=10001
ENV DEBIAN_FRONTEND=noninteractive
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/* \
    && useradd --uid ${UID} --no-create-home --home-dir /tmp --shell /usr/sbin/nologin mews \
    && mkdir -p /work && chown mews:mews /work
COPY --from=build /opt/mews /opt/mews
ENV PATH=/opt/mews/.venv/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1
USER ${UID}
WORKDIR /work
VOLUME ["/work"]
HEALTHCHECK --interval=30s --timeout=20s --start-period=10s --retries=3 CMD ["mews", "--version"]
ENTRYPOINT ["mews"]
CMD ["etl", "--help"]
