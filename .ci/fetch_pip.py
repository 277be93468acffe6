"""Downloads the pinned pip wheel, for a Python that has neither pip nor venv: fetch_pip.py TARGET.

Looks in the index that pip itself would use (PIP_INDEX_URL, else PyPI) and checks the wheel's SHA-256. A wheel runs as it is: PYTHONPATH=TARGET python3 -m pip.
"""

import hashlib
import os
import re
import sys
import urllib.parse
import urllib.request

NAME = "pip-24.3.1-py3-none-any.whl"
SHA256 = "3790624780082365f47549d032f3770eeb2b1e8bd1f7b2e02dace1afa361b4ed"


def main():
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/") + "/pip/"
    try:
        with urllib.request.urlopen(index, timeout=60) as answer:
            base, page = answer.geturl(), answer.read().decode("utf-8", "replace")
        link = re.search(r'href="([^"]*%s[^"]*)"' % re.escape(NAME), page)
        if link is None:
            sys.exit(f"{index} has no {NAME}")
        with urllib.request.urlopen(urllib.parse.urljoin(base, link.group(1)), timeout=60) as answer:
            wheel = answer.read()
    except (OSError, ValueError) as error:
        sys.exit(f"cannot fetch pip from {index}: {error}")
    if hashlib.sha256(wheel).hexdigest() != SHA256:
        sys.exit(f"{NAME} from {index} is not the pinned file")
    with open(sys.argv[1], "wb") as file:
        file.write(wheel)


if __name__ == "__main__":
    main()
