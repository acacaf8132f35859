"""XML: tags, texts and whole records are moved, repeated, left out and put in; now and then the encoding changes."""

from __future__ import annotations

import re
from random import Random
from typing import Final

from tests.fuzz.mutate import text

_token: Final = re.compile(r"<[^<>]*>|[^<]+|<")
_record: Final = re.compile(r"<(\w+:)?record>.*?</(\w+:)?record>", re.DOTALL)
_MARKUP: Final = (
    *(
        "<",
        ">",
        "&",
        "</",
        "/>",
        "<!--",
        "-->",
        "<!-- x -->",
        "<![CDATA[",
        "]]>",
        "<![CDATA[ x ]]>",
        "<?x y?>",
        "<?x ",
    ),
    *(
        "<!DOCTYPE a>",
        '<!DOCTYPE a [<!ENTITY b "c">]>',
        "&b;",
        "&#1;",
        "&#65;",
        "&#x1F600;",
        "&#xD800;",
        "\r",
        "\r\n",
    ),
    *(
        "<a/>",
        "<a b='c'/>",
        "<oub:record/>",
        "<env:header/>",
        "<env:status><x/></env:status>",
        'xmlns:oub="urn:x"',
    ),
    *(
        ' id="7"',
        ' xmlns=""',
        "<oub:record><oub:record.code>370</oub:record.code></oub:record>",
        "\ufeff",
        "\x00",
    ),
)
#: What may be tried before the root.
_BEFORE: Final = (
    *(
        "<!DOCTYPE a>",
        '<!DOCTYPE a [<!ENTITY b "c">]>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd">',
        "<!-- x -->",
        "x",
    ),
    *("<?x y?>", "<a/>", " ", "\x00", "<![CDATA[ x ]]>", '<?xml version="1.1"?>'),
)
_ENCODINGS: Final = ("utf-16", "utf-16-le", "utf-16-be", "iso-8859-1", "ascii", "utf-8-sig", "utf-7")


def mutate(data: bytes, other: bytes, random: Random) -> bytes:
    """An envelope after a few changes, records and texts from `other` among them."""
    content, donor = _decoded(data), _decoded(other)
    for _ in range(random.choice((1, 1, 2, 3, 6))):
        content = _change(content, donor, random)
    if random.randrange(25) == 0:
        encoding = random.choice(_ENCODINGS)
        declared = re.sub('encoding="[^"]*"', f'encoding="{encoding}"', content, count=1)
        return (declared if random.random() < 0.7 else content).encode(encoding, "replace")
    if random.randrange(60) == 0:
        content = content.replace("<env:envelope", random.choice(_BEFORE) + "<env:envelope", 1)
    if random.randrange(12) == 0:
        content = content.replace("\n", random.choice(("\r\n", "\r", "\n\n")))
    return content.encode(errors="replace")


def _decoded(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    return data.decode(errors="replace")


def _change(content: str, donor: str, random: Random) -> str:
    kind = random.randrange(10)
    if kind < 2:
        return _change_records(content, donor, random)
    tokens = _token.findall(content) or [""]
    at = random.randrange(len(tokens))
    if kind < 5:  # a text between tags: where values stand
        texts = [
            index for index, each in enumerate(tokens) if not each.startswith("<") and not each.isspace()
        ]
        if texts:
            at = random.choice(texts)
            theirs = [each for each in _token.findall(donor) if each.strip() and not each.startswith("<")]
            swap = bool(theirs) and random.random() < 0.4
            tokens[at] = random.choice(theirs) if swap else text.change(tokens[at], random)
    elif kind == 5:
        del tokens[at : at + random.choice((1, 1, 2, 3))]
    elif kind == 6:
        piece = tokens[at : at + random.choice((1, 2, 3, 8))]
        tokens[at:at] = piece * random.choice((1, 1, 1, 2, 70))
    elif kind == 7:
        tokens[at] = text.change(tokens[at], random, _MARKUP)
    elif kind == 8:
        tokens.insert(at, random.choice(_MARKUP))
    else:
        source = random.choice((tokens, _token.findall(donor) or [""]))
        tokens[at] = random.choice(source)
    return "".join(tokens)


def _change_records(content: str, donor: str, random: Random) -> str:
    """Whole records: left out, repeated, or put in from elsewhere."""
    mine = list(_record.finditer(content))
    theirs = [found.group() for found in _record.finditer(donor)]
    if not mine:
        return content
    place = random.choice(mine)
    kind = random.randrange(3)
    if kind == 0:
        new = ""
    elif kind == 1 and theirs:
        new = random.choice(theirs)
    else:
        new = place.group() * 2
    return content[: place.start()] + new + content[place.end() :]
