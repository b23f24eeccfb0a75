#!/bin/sh
# Builds the image `cpu` without a Docker engine, and runs it: the demo, then a request to the served ensemble.
# Needs root, debootstrap, buildah and crun or runc (apt-get install debootstrap buildah crun); says so and ends if one is missing.
#   make image-test            IMAGE_TEST_ARGS: options of the demo
set -eu
cd "$(dirname "$0")/.."

for tool in debootstrap buildah; do
  if ! command -v "$tool" > /dev/null; then
    echo "image-test: skipped: no $tool (apt-get install debootstrap buildah)"
    exit 0
  fi
done
if [ "$(id -u)" != 0 ]; then
  echo "image-test: skipped: debootstrap and buildah's chroot isolation need root"
  exit 0
fi

folder=$(mktemp -d "${TMPDIR:-/tmp}/mews-image-XXXXXX")
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
store="--root $folder/store --runroot $folder/run --storage-driver vfs"
trap 'buildah $store rm --all > /dev/null 2>&1 || true; rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM

echo "image-test: a Debian base"
debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv,libpython3.11 bookworm "$folder/base" \
  "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" > "$folder/debootstrap.log" || { tail -20 "$folder/debootstrap.log"; exit 1; }
base=$(buildah $store from scratch)
buildah $store copy --quiet "$base" "$folder/base" / > /dev/null
buildah $store commit --quiet --format docker "$base" mews-base > /dev/null
buildah $store rm "$base" > /dev/null
rm -rf "$folder/base"

echo "image-test: docker/cpu.Dockerfile"
# Where this machine reads packages from, and whom it trusts, is its own affair: that comes in as files, not as layers.
settings=""
lend() { [ -e "$1" ] && settings="$settings --volume $1:${2:-$1}:ro" || true; }
lend "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" /etc/ssl/certs/ca-certificates.crt
printf '%s\n' 'native-tls = true' > "$folder/uv.toml"
[ -f "$HOME/.config/uv/uv.toml" ] && cat "$HOME/.config/uv/uv.toml" >> "$folder/uv.toml"
lend "$folder/uv.toml" /etc/uv/uv.toml
lend /etc/pip.conf
lend "$HOME/.config/pip/pip.conf" /root/.config/pip/pip.conf
for path in $(cat /etc/pip.conf "$HOME/.config/pip/pip.conf" 2> /dev/null | grep -oE '(^|[ =]|file://)/[^ ]+' | sed 's|^.*//|/|; s|^[ =]||' | sort -u); do
  [ -d "$path" ] && lend "$path"
done
buildah $store build --quiet --format docker --isolation chroot --network host $settings ${IMAGE_BUILD_ARGS:-} \
  --build-arg BASE=localhost/mews-base --file docker/cpu.Dockerfile --tag mews-cpu .

echo "image-test: the demo in it"
made=$(buildah $store from localhost/mews-cpu)
inside() { buildah $store run --isolation chroot "$made" -- "$@"; }
inside mews demo --run /work/run --quiet ${IMAGE_TEST_ARGS:---set data.rows=60000 --set bench.stock=false}
answer=$(inside mews predict --run /work/run --input /work/run/examples/rows.json --json --quiet | tail -1)
echo "image-test: a served request answered $answer"
test "$(inside id -u)" = 10001
case "$answer" in *score*) echo "image-test: ok" ;; *) echo "image-test: no score in the answer"; exit 1 ;; esac
