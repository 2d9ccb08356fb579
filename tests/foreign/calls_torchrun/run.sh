#!/bin/bash
# run.sh LR EPOCHS OUT NODES NODE RANKS_PER_NODE ADDRESS PORT
exec torchrun --nnodes "$4" --node-rank "$5" --nproc-per-node "$6" --master-addr "$7" \
    --master-port "$8" --max-restarts 20 train.py --lr "$1" --epochs "$2" --out "$3"
