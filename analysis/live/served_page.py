"""The served page: the report's own, with the script that keeps it up to date.

The page on disk may connect to nothing. This one may ask the server that it came from, and its
policy names one script more; all else is the same, byte for byte.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

_META = '<meta http-equiv="Content-Security-Policy" content='
_POLICY = re.compile(f'(?P<start>{_META}"[^"]*?script-src )(?P<end>[^"]*)')
# Before all others, which change what stands in the page; data in JSON has a type.
_FIRST_SCRIPT = re.compile(r"<script(?![^>]*\btype=)[^>]*>")


def served(html: str) -> str:
    """Raises ValueError where the page has no policy or no script."""
    script = _script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = _POLICY.search(html)
    first = _FIRST_SCRIPT.search(html, html.find("<body"))
    if policy is None or first is None:
        raise ValueError("the page has no policy or no script of its own")
    return (
        f"{html[: policy.start('end')]}'sha256-{digest}' {policy['end']}; connect-src 'self'"
        f"{html[policy.end() : first.start()]}<script>{script}</script>\n{html[first.start() :]}"
    )


@cache
def _script() -> str:
    return Path(__file__).with_name("live.js").read_text()
