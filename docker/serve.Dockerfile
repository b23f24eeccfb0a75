# syntax=docker/dockerfile:1
# Serves an exported model repository with NVIDIA's Triton and its C++ onnxruntime backend: no Python, no Mews inside.
# docker/README.md has the commands. From the repository's root:
#   docker build -f docker/serve.Dockerfile --build-arg NAME=mews -t mews-serve .

# A release from 26.05 on reads JSON without recursion, so that brackets in a request cannot end the server.
ARG TRITON=26.08-py3
FROM nvcr.io/nvidia/tritonserver:${TRITON}

# The ensemble to load, with everything that it is made of.
ARG NAME=mews
ENV MEWS_MODEL=${NAME}

# Who runs the server; the repository is mounted or copied, and only read.
ARG UID=10001
RUN useradd --uid ${UID} --no-create-home --shell /usr/sbin/nologin mews \
    && mkdir -p /models && chown root:root /models && chmod 0755 /models
COPY --chown=root:root docker/serve.sh /usr/local/bin/mews-serve
RUN chmod 0555 /usr/local/bin/mews-serve

USER ${UID}
# HTTP, gRPC, metrics.
EXPOSE 8000 8001 8002
VOLUME ["/models"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --retries=3 \
    CMD ["sh", "-c", "curl --fail --silent --output /dev/null http://127.0.0.1:8000/v2/models/$MEWS_MODEL/ready"]
ENTRYPOINT ["/usr/local/bin/mews-serve"]
