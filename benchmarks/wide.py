"""How fast is WRN-28-10 trained, beside xternalz/WideResNet-pytorch?

    python benchmarks/wide.py --peer CHECKOUT [--root FOLDER_OF_CIFAR10] [--model wrn_28_10]
        [--batch 128] [--steps N] [--rounds 5]
        [--variants channels_last channels_last+bf16 channels_last+bf16+compile]
        [--ours precision=fp32]

CHECKOUT is https://github.com/xternalz/WideResNet-pytorch. The peer is its own train.py as shipped,
with dropout 0.3 as ours has; on a CPU its calls of .cuda(), which is all that it knows, do nothing.
It reads loss and accuracy in every step, reflects at the borders and loads in one worker; ours is
the reported protocol. --variants adds what its users add by hand. The figures are those of
training.py. On a CPU a step of 128 takes half a minute: take a smaller model, as wrn_16_4.

Last measured on two processors of an AMD EPYC without bf16, nothing else running, torch 2.14.1,
--root --model wrn_10_2 --rounds 2: ours 247 images/s (206 to 288), the peer 163 (158 to 169): 1.51
x (1.30 to 1.71); process start to first step 3.04 s, the peer 4.96. On a GPU the peer was not
measured; ours, alone, on one NVIDIA H100 80GB HBM3, torch 2.11, CIFAR-10 at batch 256: 11,141
images/s, 44 % of the measured bf16 peak; 100 epochs with validation in 421 s.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from training import arguments, compare, contenders
from trial import Contender


def main() -> None:
    parser = arguments(__doc__, model="wrn_28_10", steps=2)
    parser.add_argument("--peer", required=True, help="checkout of xternalz/WideResNet-pytorch")
    options = parser.parse_args()
    ours = Contender("ours", model=options.model, batch=options.batch, steps=options.steps)
    peer = dataclasses.replace(ours, kind="wide", checkout=str(Path(options.peer).resolve()))
    runs = contenders(ours, peer, options.ours, options.variants)
    compare(runs, "wide", options.root, options.rounds)


if __name__ == "__main__":
    main()
