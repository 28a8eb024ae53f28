#!/bin/sh
# The six commands on the built-in release, from nothing to ten images of runways: sh examples/demo.sh FOLDER
set -eu
folder=${1:-demo}
rm -rf "$folder"
mkdir -p "$folder"
cd "$folder"

say() {
    printf '\n$ %s\n' "$*"
    "$@"
}

# Small enough for two CPU cores and four minutes. The defaults (ResNet-50 at 256 pixels from ImageNet weights) want a GPU.
say dove fetch sample
say dove shard
say dove train --backbone resnet18 --image-size 64 --weights none --region-grid 4 --embed-dim 256 \
    --objective infonce --lambda-g 1 --learning-rate 5e-4 --epochs 4
say dove eval
say dove embed
printf '\n$ dove query "airport runway" --top 10 --sheet runways.png\n'
dove query "airport runway" --top 10 --sheet runways.png
printf '\nThe ten images: %s\n' "$PWD/runways.png"
