#!/bin/sh
# Run the six commands on the sample release, from no data to ten images of runways: sh examples/demo.sh FOLDER
set -eu
folder=${1:-demo}
rm -rf "$folder"
mkdir -p "$folder"
cd "$folder"

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

# A small model for two CPU cores: about four minutes. The defaults (ResNet-50 at 256 pixels from ImageNet weights) need a GPU.
run dove fetch sample
run dove shard
run dove train --backbone resnet18 --image-size 64 --weights none --region-grid 4 --embed-dim 256 \
    --objective infonce --lambda-g 1 --learning-rate 5e-4 --epochs 4
run dove eval
run dove embed
printf '\n$ dove query "airport runway" --top 10 --sheet runways.png\n'
dove query "airport runway" --top 10 --sheet runways.png
printf '\nThe ten images: %s\n' "$PWD/runways.png"
