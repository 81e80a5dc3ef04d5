#!/bin/sh
# From a dataset to a picture, by the commands that anyone would type.
set -eu
mkdir -p demo
export GENLOOM_STORE="file://$PWD/demo/store"
port=${PORT:-8000}
run() { echo "\$ genloom $*"; genloom "$@"; }

run data import digits
run train image-classifier steps=1000 global_batch=128 average=0.99 --data digits --workers 2
run train image-vae steps=1000 global_batch=128 average=0.99 --data digits --workers 2
run evaluate image-vae --judge image-classifier

echo "\$ genloom serve image-vae --port $port &"
ready=$(mktemp -u); mkfifo "$ready"
genloom serve image-vae --port "$port" > "$ready" &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null || true; rm -f "$ready"' EXIT
exec 3< "$ready"
read -r line <&3
echo "$line"
run generate image-vae --endpoint "http://127.0.0.1:$port" --count 40 --seed 0 --prompt label=0..9 --sheet demo/digits.png
