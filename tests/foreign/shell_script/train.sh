#!/bin/sh
# train.sh RATE EPOCHS OUT: halve an error by RATE, with awk.
set -e
rate=$1 epochs=$2 out=$3
epoch=0 error=1.0
if [ -f "$out/state" ]; then
    read -r epoch error < "$out/state"
fi
while [ "$epoch" -lt "$epochs" ]; do
    echo "$epoch" >> "$out/begun.txt"
    sleep 0.1
    error=$(awk "BEGIN { print $error * (1 - $rate) }")
    echo "epoch $epoch: error $error"
    epoch=$((epoch + 1))
    echo "$epoch $error" > "$out/state.new"
    mv "$out/state.new" "$out/state"
done
