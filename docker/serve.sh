#!/bin/sh
# Starts Triton on /models with one ensemble, under explicit control; options of tritonserver may follow.
set -eu
exec /opt/tritonserver/bin/tritonserver \
  --model-repository=/models \
  --model-control-mode=explicit \
  --load-model="${MEWS_MODEL:-mews}" \
  --exit-on-error=true \
  --strict-readiness=false \
  --exit-timeout-secs=30 \
  --disable-auto-complete-config \
  --metrics-config=summary_latencies=true \
  "$@"
