# syntax=docker/dockerfile:1
# Training on NVIDIA GPUs: TensorFlow 2.12, Merlin Models. docker/README.md has the commands.
#   docker build -f docker/train-gpu.Dockerfile -t mews-train-gpu .
#   docker run --rm --gpus all --shm-size 2g -v mews:/work mews-train-gpu train

# TensorFlow 2.12 was built for CUDA 11.8 and cuDNN 8. On top of NVIDIA's Merlin image of that CUDA instead:
#   --build-arg BASE=nvcr.io/nvidia/merlin/merlin-tensorflow:22.12
ARG BASE=docker.io/nvidia/cuda:11.8.0-cudnn8-runtime-ubuntu22.04

FROM ${BASE} AS build
WORKDIR /opt/mews
ENV UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_INSTALL_DIR=/opt/python DEBIAN_FRONTEND=noninteractive
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY requirements/uv.lock requirements/main.lock requirements/triton.lock requirements/
# Neither base has Python 3.11; uv brings it, checked against the sums that this uv knows.
RUN python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir --quiet --require-hashes -r requirements/uv.lock \
    && /opt/uv/bin/uv venv --quiet --managed-python --python 3.11 .venv \
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
LABEL org.opencontainers.image.title="mews-train-gpu" \
      org.opencontainers.image.description="Training of a recommender on GPUs" \
      org.opencontainers.image.licenses="Apache-2.0"
ARG UID=10001
RUN useradd --uid ${UID} --no-create-home --home-dir /tmp --shell /usr/sbin/nologin mews \
    && mkdir -p /work && chown mews:mews /work
COPY --from=build /opt/python /opt/python
COPY --from=build /opt/mews /opt/mews
ENV PATH=/opt/mews/.venv/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1
USER ${UID}
WORKDIR /work
VOLUME ["/work"]
HEALTHCHECK --interval=30s --timeout=20s --start-period=10s --retries=3 CMD ["mews", "--version"]
ENTRYPOINT ["mews"]
CMD ["train"]
