"""The portraits of the repository voteview/member_photos that are in the public domain as far as one can tell, as links in a new folder.

    python benchmarks/teachers/congress.py REPOSITORY OUT

Of its `images/bio_guide`, the pictures of the Biographical Directory of the United States Congress: of members who sat last in the 41st to
70th Congress (1869 to 1929), by their age, and of those who sat in the 105th (1997) or later, as official portraits are works of the
government. Earlier ones are mostly engravings and paintings. Who sat when is in its `config/database-raw.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fkp.errors import FkpError, run_command

BY_AGE, OFFICIAL = range(41, 71), 105


def main() -> None:
    """Make the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    table = arguments.repository / "config/database-raw.json"
    try:
        members = json.loads(table.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FkpError(f"{table} cannot be read ({error}): name a checkout of voteview/member_photos") from error
    last: dict[int, int] = {}
    for member in members:
        last[int(member["icpsr"])] = max(last.get(int(member["icpsr"]), 0), int(member["congress"]))
    if arguments.out.exists():
        raise FkpError(f"{arguments.out} is there already: name a new folder")
    arguments.out.mkdir(parents=True)
    count = 0
    for path in sorted((arguments.repository / "images/bio_guide").glob("*.jpg")):
        congress = last.get(int(path.stem), 0)
        if congress in BY_AGE or congress >= OFFICIAL:
            (arguments.out / path.name).symlink_to(path.resolve())
            count += 1
    print(f"{count} portraits in {arguments.out}")


if __name__ == "__main__":
    run_command(main)
