"""How quickly rows that are almost the same are found, beside datasketch, with the same bands and the same recall.

    pip install 'fttool[bench]'
    python tests/benchmarks/near_duplicates.py            five minutes
    python tests/benchmarks/near_duplicates.py --quick    some seconds

100,000 texts of 60 words on average, a tenth of them copies of another one with a few words changed. Both make 128
hashes of a text's pieces of five characters, compare them in the same bands, and compare what shares a band exactly, so
that no text is dropped that is not alike; each has one thread. datasketch is used as its documentation has it: a
`MinHash` of each text's set of pieces, asked of a `MinHashLSH` and put in where nothing is like it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import report
from texts import Texts

from fttool_plugins.filter.minhash import HASHES, band_width, near_duplicates

TIMES_DATASKETCH = 5
SAME = 0.99
"""Share of the rows that either drops which both drop."""
THRESHOLD, SIZE, SEED = 0.8, 5, 17
COPIES = 0.1
Dropped = set[int]


def main() -> None:
    """Find the copies with both, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few texts")
    parser.add_argument("--rows", type=int, default=None, help="default: 100,000, or 600 with --quick")
    options = parser.parse_args()
    if find_spec("datasketch") is None:
        sys.exit("skipped: there is nothing to compare with; pip install 'fttool[bench]'")
    count = options.rows or (600 if options.quick else 100_000)
    texts, copies = planted(count)
    ours, seconds = timed(fttools, texts)
    theirs, their_seconds = timed(datasketchs, texts)
    recall = {"fttool": share(ours, copies), "datasketch": share(theirs, copies)}
    found: dict[str, Any] = {"benchmark": "near_duplicates", "machine": report.machine(), "rows": count}
    found["planted"] = len(copies)
    found["rows_per_second"] = {"fttool": round(count / seconds), "datasketch": round(count / their_seconds)}
    found["over_datasketch"] = report.figure([their_seconds / seconds], at_least=TIMES_DATASKETCH)
    found["recall"] = recall
    found["same_rows_over_all_dropped"] = report.figure([len(ours & theirs) / len(ours | theirs)], at_least=SAME)
    report.show(found)


def planted(count: int) -> tuple[list[str], dict[int, int]]:
    """Texts, and the places of copies that are as alike as the threshold to an earlier one, with its place."""
    made, texts, copies = Texts(SEED), list[list[str]](), dict[int, int]()
    originals: list[int] = []
    for place in range(count):
        if originals and made.draw.random() < COPIES:
            first = made.draw.choice(originals)
            words = texts[first]
            texts.append(made.changed(words, made.draw.randint(0, len(words) // 8)))
            if jaccard(pieces(" ".join(words)), pieces(" ".join(texts[place]))) >= THRESHOLD:
                copies[place] = first
        else:
            originals.append(place)
            texts.append(made.said(20, 100))
    return [" ".join(words) for words in texts], copies


def pieces(text: str) -> set[str]:
    """Its pieces of `SIZE` characters."""
    return {text[start : start + SIZE] for start in range(max(1, len(text) - SIZE + 1))}


def jaccard(one: set[str], other: set[str]) -> float:
    """Shared pieces over all pieces."""
    return len(one & other) / len(one | other)


def share(dropped: Dropped, copies: dict[int, int]) -> float:
    """The share of the copies that are dropped."""
    return round(len(dropped & copies.keys()) / max(1, len(copies)), 4)


def timed(find: Callable[[Sequence[str]], Dropped], texts: Sequence[str]) -> tuple[Dropped, float]:
    """What is dropped, and the processor's seconds for it."""
    began = time.process_time()
    dropped = find(texts)
    return dropped, time.process_time() - began


def fttools(texts: Sequence[str]) -> Dropped:
    """As the filter has it."""
    first = near_duplicates(texts, THRESHOLD, SIZE, SEED)
    return {place for place, other in enumerate(first) if other is not None}


def datasketchs(texts: Sequence[str]) -> Dropped:
    """As its documentation has it, with an exact comparison of what it proposes."""
    from datasketch import MinHash, MinHashLSH

    width = band_width(THRESHOLD)
    index = MinHashLSH(threshold=THRESHOLD, num_perm=HASHES, params=(HASHES // width, width))
    dropped: Dropped = set()
    for place, text in enumerate(texts):
        own = pieces(text)
        signature = MinHash(num_perm=HASHES, seed=SEED)
        signature.update_batch([piece.encode() for piece in own])
        proposed: Any = index.query(signature)
        if any(jaccard(pieces(str(texts[other])), own) >= THRESHOLD for other in proposed):
            dropped.add(place)
        else:
            index.insert(place, signature)
    return dropped


if __name__ == "__main__":
    main()
