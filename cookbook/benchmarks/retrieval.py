"""How often `MemOS.search` finds what holds the answer, beside BM25, vectors and their plain sum.

    python cookbook/benchmarks/retrieval.py --data locomo10.json --data longmemeval_s.json --data beam.jsonl.gz

Reads the files of LoCoMo, LongMemEval and BEAM as they are published (JSON or JSON lines, gzip or not), adds every
conversation through `MemOS.add` and asks through `MemOS.search`, with one default setting for all of them.
The same as `memos bench retrieval`.
"""

import sys

from memos_agents import MemOS
from memos_agents.testing.retrieval_bench import main

if __name__ == "__main__":
    if sys.argv[1:] == ["--quick"]:
        sys.stdout.write("retrieval needs data that is not ours to ship: give --data LoCoMo, LongMemEval or BEAM\n")
        raise SystemExit(0)
    raise SystemExit(main(open_store=MemOS.open))
