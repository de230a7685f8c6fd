"""`python -m bianque bench prefill`: milliseconds to the first token, and tokens of the prompt read a second.

The contestants of `bench decode`, with a reply of one token; a command beside need only print `first_ms` or
`prefill_ms`.
"""

from __future__ import annotations

from typing import Any

from bianque.bench import roofline, rounds
from bianque.bench.decode import contests


def prefill(options: Any) -> None:
    found = []
    for work, table, _ in contests(options, tokens=1, greedy=True):
        print(f"\n{work.arch} {work.precision}, prompt {work.prompt}, {work.config['num_layers']} layers")
        print("\n".join(table.lines(("first",))))
        for name in table.runs:
            print(f"{name}: {work.prompt / table.median(name, 'first') * 1e3:.0f} tokens of the prompt a second")
        speed = roofline.prefill_flops(work.config, work.arch, work.prompt) / table.median("ours", "first") / 1e6
        print(f"ours computes {speed:.0f} GFLOP/s; the probe computes {table.probe('matmul'):.0f} GFLOP/s")
        print(table.host, flush=True)
        found.append({"work": repr(work), "runs": table.runs, **table.around})
    rounds.save(options, measured=found)
