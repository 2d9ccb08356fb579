"""Secrets: what looks like one is masked where a command, an error or a log line is recorded.

By name (`--token X`, `HF_TOKEN=X`, `"api_key": "X"`, `Authorization: Bearer X`), by place (a URL's
`user:X@`) and by the well-known shapes of tokens. Too much masked is a nuisance, too little a leak;
but names that training programs use for other things (`eos_token`, `sort_key`) stay readable.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

MASK = "***"

# The last word of a name that holds a secret, which may also be in one piece: accesstoken.
_LAST = re.compile(
    r"auth|oauth|authorization|bearer|cookies?|jwt|key|pass|pwd|sas|sig|signature"
    r"|.*(token|secrets?|passwd|passwords?|passphrase|credentials?|(api|access|secret|private|auth)keys?)"
)
# Words before `key` and `token` with which they are not a secret.
_ORDINARY = {
    "key": re.compile(
        "sort|group|primary|foreign|dict|metric|monitor|cache|partition|row|join|public|index|data"
        "|dataset|images?|labels?|text|target|input|output|feature|config|score|loss|by|state|model"
        "|column|json|batch|query|map|lookup|order|hot|registry|train|val|test|num"
    ),
    "token": re.compile(
        "pad|eos|bos|cls|unk|sep|mask|class|special|start|end|stop|prefix|suffix|image|text|num|per"
        "|max|min|register|patch|distill?|next|first|last|begin|input|output|vocab|sub|word|visual"
        "|global|latent|extra|placeholder|drop|random|pool|pooling"
    ),
}
_PLAIN_VALUES = frozenset(("true", "false", "none", "null", "yes", "no", "on", "off", "0", "1"))
# Names that, alone, mean something else as often: `auth login`, `attn.key: copying a parameter`.
_AMBIGUOUS = frozenset(("auth", "oauth", "key", "pass", "sas", "sig", "signature", "cookie"))
# With these a name is of a switch, which has no value: --no-auth.
_SWITCHES = frozenset(("no", "enable", "disable", "skip", "has", "is"))
_NOT_SECRET = frozenset(("PWD", "OLDPWD"))

_NAME = r"[A-Za-z_][\w.-]*"
# A word as a shell, JSON or Python writes it: quoted parts side by side, or all up to a space.
_QUOTED = r"""(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")"""
_VALUE = rf"""(?:{_QUOTED}(?:{_QUOTED}|[^\s'",;:)\]}}])*|(?:\\.|[^\s'"\\])(?:\\.|[^\s\\])*)"""
_SCHEME = r"(?:(?:Bearer|Basic|Digest|Token)[ \t]+)?"
_OPTION = re.compile(rf"-[A-Za-z]|--{_NAME}(?:=.*)?", re.DOTALL)
_ASSIGNED = re.compile(
    rf"""(?<![\w.?&])(?P<name>{_NAME})(?:\\?["'])?(?:[ \t]*=(?!=)|=|[ \t]*:(?![:=]|//))[ \t]*"""
)
_VALUE_AFTER = re.compile(rf"""(?:\\(?=["']))?{_SCHEME}{_VALUE}""", re.IGNORECASE)
_FLAG = re.compile(rf"(?<!\S)--?(?P<name>{_NAME})[ \t]+(?=[^\s-])")
_QUERY = re.compile(rf"""(?<=[?&])(?P<name>{_NAME})=(?P<value>[^&\s'"#]*)""")
_PASSWORD_IN_URL = re.compile(
    r"""(?<![\w+.-])(?P<head>[A-Za-z][\w+.-]*://[^\s/:@'"]*:)[^\s/'"]+(?=@)"""
)
_USER_IN_URL = re.compile(r"""(?P<head>https?://)[^\s/:@'"]+(?=@)""", re.IGNORECASE)
_SHAPES = re.compile(
    r"""
    -----BEGIN[ ][A-Z0-9 ]*PRIVATE[ ]KEY-----.*?(?:-----END[ ][A-Z0-9 ]*PRIVATE[ ]KEY-----|\Z)
    | (?<![A-Za-z0-9])(?:
        hf_[A-Za-z0-9]{16,}
      | gh[oprsu]_[A-Za-z0-9]{16,}
      | github_pat_\w{16,}
      | glpat-[\w-]{16,}
      | sk-(?=[\w-]*\d)[\w-]{16,}
      | xox[a-z]-[\w-]{8,}
      | A[KS]IA[0-9A-Z]{12,}
      | AIza[\w-]{30,}
      | wandb_v\d_\w{16,}
      | pypi-[\w-]{32,}
      | npm_[A-Za-z0-9]{30,}
      | eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)*
    )
    | (?<=bearer[ ])[\w~+/.=-]{8,}
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


# Each name of a secret, and each shape, has one of these in it. To look for them takes a tenth of
# the time of all else, and most lines that a program prints have none.
_IN_NAMES = (
    "auth", "bearer", "cookie", "jwt", "key", "pass", "pwd", "sas", "sig", "token", "secret",
    "credential", "aws_",
)  # fmt: skip
_IN_SHAPES = (
    "-----begin", "hf_", "gho_", "ghp_", "ghr_", "ghs_", "ghu_", "github_pat_", "glpat-", "sk-",
    "xox", "akia", "asia", "aiza", "wandb_v", "pypi-", "npm_", "eyj", "bearer ",
)  # fmt: skip


def is_secret(name: str) -> bool:
    """Whether what is assigned to a name is a secret: hf_token, API_KEY, --wandb-key, AWS_...."""
    if name.startswith("AWS_"):
        return True
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    if len(words) > 1 and (words[-1] == "value" or words[-2:] == ["key", "id"]):
        words.pop()
    if not words or name in _NOT_SECRET or words[0] in _SWITCHES:
        return False
    before, last = ["", *words][-2:]
    if last == "keys":
        before, last = "", f"{before}{last}"
    ordinary = last in _ORDINARY and _ORDINARY[last].fullmatch(before) is not None
    return not ordinary and _LAST.fullmatch(last) is not None


def masked(text: str) -> str:
    """The text with every secret in it masked."""
    lower = text.lower()
    if any(word in lower for word in _IN_SHAPES):
        text = _SHAPES.sub(MASK, text)
    if "://" in text and "@" in text:
        text = _PASSWORD_IN_URL.sub(rf"\g<head>{MASK}", text)
        text = _USER_IN_URL.sub(
            lambda m: m[0] if m[0].endswith("//git") else m["head"] + MASK, text
        )
    if not any(word in lower for word in _IN_NAMES):
        return text
    text = _QUERY.sub(lambda m: f"{m['name']}={MASK}" if is_secret(m["name"]) else m[0], text)
    return _after_names(_FLAG, _after_names(_ASSIGNED, text))


def _after_names(pattern: re.Pattern[str], text: str) -> str:
    """Mask the value after each secret's name. Values of other names may hold such names."""
    pieces, done = [], 0
    for found in pattern.finditer(text):
        if found.start() < done or not is_secret(found["name"]):
            continue
        value = _VALUE_AFTER.match(text, found.end())
        if value is None or value[0].strip("\"'").lower() in _PLAIN_VALUES:
            continue
        quote = value[0][0] if value[0][0] in "\"'" and value[0][-1] == value[0][0] else ""
        in_prose = re.fullmatch(rf"{_NAME}:[ \t]*", found[0]) and value[0][0] not in "\\\"'"
        if in_prose and found["name"].rpartition(".")[2].lower() in _AMBIGUOUS:
            continue
        pieces += [text[done : found.end()], quote, MASK, quote]
        done = value.end()
    return "".join([*pieces, text[done:]])


def masked_words(words: Sequence[str]) -> list[str]:
    """The words of a command line, with every secret masked; a value may be the next word."""
    found = []
    follows = False
    for word in words:
        if follows and not _OPTION.fullmatch(word):
            found.append(word if word.lower() in _PLAIN_VALUES else MASK)
        else:
            found.append(_masked_word(word))
        name = word.lstrip("-")
        is_name = re.fullmatch(_NAME, name) is not None and is_secret(name)
        follows = is_name and (word != name or name not in _AMBIGUOUS)
    return found


def _masked_word(word: str) -> str:
    """One word, which may hold spaces: from the name of a secret on all of it is its value."""
    for one in _ASSIGNED.finditer(word):
        before, value = word[: one.start()], word[one.end() :]
        if is_secret(one["name"]) and "://" not in before and not re.search(r"\s", before):
            plain = not value or value.lower() in _PLAIN_VALUES
            return word if plain else word[: one.end()] + MASK
    return masked(word)


def masked_command(text: str) -> str:
    """A recorded command line, which shlex joined, with every secret masked."""
    try:
        words = shlex.split(text)
    except ValueError:
        return masked(text)
    changed = masked_words(words)
    return text if changed == words else shlex.join(changed)


def masked_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name, with every secret masked."""
    return {
        name: MASK
        if is_secret(name) and isinstance(value, str) and value.lower() not in _PLAIN_VALUES
        else masked(value)
        if isinstance(value, str)
        else value
        for name, value in values.items()
    }
