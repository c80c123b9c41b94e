"""Texts on which tokenizers are compared, and tigon's side of the comparison."""

import functools
import json
import random
import re
import subprocess
import unicodedata

from support import BINARY

SCRIPTS = {
    "latin": (0x41, 0x24F),
    "greek": (0x370, 0x3FF),
    "cyrillic": (0x400, 0x52F),
    "armenian": (0x531, 0x58A),
    "hebrew": (0x591, 0x5F4),
    "arabic": (0x600, 0x6FF),
    "devanagari": (0x900, 0x97F),
    "bengali": (0x980, 0x9FE),
    "tamil": (0xB82, 0xBFA),
    "telugu": (0xC00, 0xC7F),
    "thai": (0xE01, 0xE5B),
    "tibetan": (0xF00, 0xFD4),
    "myanmar": (0x1000, 0x109F),
    "georgian": (0x10A0, 0x10FF),
    "hangul": (0xAC00, 0xD7A3),
    "ethiopic": (0x1200, 0x137C),
    "cherokee": (0x13A0, 0x13FD),
    "khmer": (0x1780, 0x17F9),
    "mongolian": (0x1800, 0x18AA),
    "kana": (0x3041, 0x30FF),
    "han": (0x4E00, 0x9FFC),
    "jamo": (0x1100, 0x11FF),
    "han extension": (0x20000, 0x2A6D6),
    "gothic": (0x10330, 0x1034A),
    "punctuation": (0x2000, 0x206F),
    "symbols": (0x2070, 0x2BFF),
    "cjk symbols": (0x3000, 0x303F),
    "compatibility": (0xF900, 0xFFFD),
    "emoji": (0x1F300, 0x1FAFF),
    "math": (0x1D400, 0x1D7FF),
    "latin marks": (0x1E00, 0x1EFF),
    "combining": (0x300, 0x36F),
    "tags": (0xE0020, 0xE007F),
}
SPACES = (
    " \t\n\r\v\f\x1c\x1f\x85\xa0\u1680\u180e\u2000\u2003\u200a\u200b\u2028\u2029\u202f\u205f\u3000"
    "\ufeff"
)
EMOJI = ["👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "❤️‍🔥", "🧑🏿‍🚀", "#️⃣", "😀", "🤷🏻‍♀️"]
CODE = [
    "def f(x: int) -> int:\n    return x ** 2  # square\n",
    "for (int i = 0; i < n; ++i) {\n\ta[i] += 1;\n}\n",
    "SELECT * FROM t WHERE a >= 10 AND b != 'x';",
    '<div class="a">&nbsp;</div>\r\n',
    "x=3.14e-10;y=0xFF;",
    "\t\t\treturn nullptr;\n\n\n}",
    "https://example.org/a?b=c&d=%20#e",
    '{"k": [1, 2, null]}',
    "#include <a.h>\n",
]
WORDS = [
    "the",
    "I'm",
    "you'LL",
    "we'Ve",
    "don't",
    "it's",
    "IT'S",
    "'Tis",
    "he'd",
    "'re",
    "ſ'ſ",
    "ﬁne",
    "naïve",
    "Ångström",
    "e\u0301a",
    "1234567890",
    "3.14",
    "²³",
    "½",
    "١٢٣",
    "Ⅻ",
    "①②",
    "hello",
    "Hello",
    "WORLD",
    "▁",
    "▁▁x",
    "_a_",
    "ß",
    "İ",
    "ǅ",
    "ﷺ",
    "가각",
    "が",
]
NAMES = [
    "<s>",
    "</s>",
    "<unk>",
    "<pad>",
    "<0x41>",
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
    "<|eot_id|>",
    "<think>",
    "</think>",
    "<|",
    "|>",
    "[MASK]",
    "[CLS]",
    " [MASK] ",
    "[mask]",
    "wordtoken",
    "Ġ",
    "Ċ",
    "âĢĻ",
]


# To the tokenizers package these are no punctuation, and no marks that move: its tables for the
# Punctuation step and for normalization are older than its regular expressions.
NEWER_CHARACTERS = "\u09fd\u09fe\u0c77"


def assigned(low, high):
    # Characters that newer Unicode versions have and older libraries do not know are not compared.
    characters = map(chr, range(low, high + 1))
    return [
        c
        for c in characters
        if unicodedata.category(c) not in ("Cn", "Cs") and c not in NEWER_CHARACTERS
    ]


CHARACTERS = [assigned(*bounds) for bounds in SCRIPTS.values()]


def word(source):
    characters = source.choice(CHARACTERS)
    return "".join(source.choice(characters) for _ in range(source.randint(1, 6)))


PARTS = [
    lambda s: s.choice(WORDS),
    lambda s: s.choice(WORDS) + " ",
    lambda s: " " + s.choice(WORDS),
    word,
    word,
    lambda s: " " + word(s),
    lambda s: "".join(s.choice(SPACES) for _ in range(s.randint(1, 5))),
    lambda s: s.choice(" \n\t") * s.randint(1, 20),
    lambda s: s.choice(EMOJI),
    lambda s: s.choice(CODE),
    lambda s: s.choice(NAMES),
    lambda s: chr(s.randint(0, 0x1F)) + "\x7f",
    lambda s: str(s.randint(0, 10**9)),
    lambda s: s.choice("!?.,;:-_()[]{}'\"/\\@#$%^&*~`|<>+=") * s.randint(1, 4),
]


@functools.cache
def texts(count=10_000, seed=0):
    """Strings from all of the above."""
    source = random.Random(seed)
    found = [
        "",
        " ",
        "\n",
        "  two  ",
        "x" * 3000,
        " " * 300,
        "\n" * 300,
        "▁ lower ▁▁",
        "a NUL \x00 inside",
        *WORDS,
        *NAMES,
        *CODE,
        *EMOJI,
    ]
    found += [c for c in SPACES] + [f"a{c}b" for c in SPACES] + [f" {c} {c}x" for c in SPACES]
    while len(found) < count:
        found.append("".join(source.choice(PARTS)(source) for _ in range(source.randint(1, 6))))
    return found


@functools.cache
def broken_texts(count=500, seed=1):
    """Bytes with invalid UTF-8 among good text."""
    source = random.Random(seed)
    found = [b"invalid \xff\xc3 \xe2\x80 \xed\xa0\x80 \xf0\x9f\x98 utf-8 \xc0\xaf"]
    for text in texts(count, seed)[-count:]:
        data = text.encode()
        cut = source.randint(0, len(data))
        found.append(
            data[:cut]
            + bytes(source.randrange(0x80, 0x100) for _ in range(source.randint(1, 4)))
            + data[cut:]
        )
    return found


def tigon_tokenize(tokenizer, data, *options):
    command = [str(BINARY / "tigon"), "tokenize", "--tokenizer", str(tokenizer), *options]
    result = subprocess.run(command, input=data, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout


def json_string(data):
    """Bytes as a JSON string; invalid UTF-8 stays what it is."""
    return b'"' + re.sub(rb'[\x00-\x1f"\\]', lambda match: b"\\u%04x" % ord(match[0]), data) + b'"'


def encode_all(tokenizer, data):
    lines = b"".join(json_string(d.encode() if isinstance(d, str) else d) + b"\n" for d in data)
    return [
        json.loads(line)["ids"] for line in tigon_tokenize(tokenizer, lines, "--jsonl").splitlines()
    ]


def decode_all(tokenizer, id_lists):
    lines = "".join(json.dumps({"ids": ids}) + "\n" for ids in id_lists).encode()
    return [
        json.loads(line)["text"]
        for line in tigon_tokenize(tokenizer, lines, "--jsonl", "--decode").splitlines()
    ]


def check_equal(kind, inputs, found, expected):
    """Names the first few inputs on which two lists differ."""
    assert (
        len(found) == len(expected) == len(inputs)
    ), f"{kind}: {len(found)} results for {len(inputs)} inputs"
    wrong = [i for i in range(len(inputs)) if found[i] != expected[i]]
    shown = [
        f"{inputs[i]!a:.300}: found {found[i]!a:.300}, expected {expected[i]!a:.300}"
        for i in wrong[:5]
    ]
    assert not wrong, f"{kind}: {len(wrong)} of {len(inputs)} differ\n" + "\n".join(shown)


def check_tokenizer(path, encode, decode, vocab_size, count=10_000):
    """`encode`: a list of strings to a list of lists of ids; `decode`: ids to a string."""
    data = texts(count)
    ids = encode(data)
    check_equal("encode", data, encode_all(path, data), ids)
    broken = broken_texts()
    check_equal(
        "encode invalid UTF-8",
        broken,
        encode_all(path, broken),
        encode([b.decode(errors="replace") for b in broken]),
    )
    some = ids[::4]
    check_equal("decode", some, decode_all(path, some), [decode(i) for i in some])
    source = random.Random(2)
    bounds = [min(300, vocab_size), vocab_size]
    strange = [
        [source.randrange(bounds[i % 2]) for _ in range(source.randint(1, 30))] for i in range(1000)
    ]
    check_equal(
        "decode ids that no text gives",
        strange,
        decode_all(path, strange),
        [decode(i) for i in strange],
    )
