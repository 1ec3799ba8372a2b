"""Words: articles, singular and plural, whether a caption names a concept, swapping one. Pure strings."""

from __future__ import annotations

import re

__all__ = ["forms", "names_concept", "plural", "singular", "swap_concept", "with_article", "words_of"]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


WORD = re.compile(r"[^\W_]+", re.UNICODE)
DETERMINERS = _set(
    "a an the this that these those my your his her its our their some any no every each one two three four "
    "five six seven eight nine ten several many"
)
#: What ends the noun that a phrase is about: the head of "cat wearing a hat" is "cat".
CONNECTING = _set(
    "about above at behind below beside by carrying from holding in inside into near of off on onto over "
    "riding sitting standing that under wearing which with without"
)
#: Words of a concept that a caption may say otherwise: "cat wearing a hat" is named by "a cat in a hat".
UNNEEDED = DETERMINERS | _set("and at in of on the wearing with")
UNCOUNTABLE = _set(
    "air asparagus autumn chaos christmas cosmos daylight daytime dusk dawn fall fog fire furniture glass "
    "gold grass hair hay ice jewelry lightning makeup midnight mist moonlight mud music nature night noon "
    "rain sand silver smoke snow spring summer sunlight sunshine traffic water weather wheat winter wood"
)
SAME_IN_PLURAL = _set(
    "aircraft bison deer fish moose offspring salmon series sheep shrimp species swine trout"
)
PLURAL_ONLY = _set(
    "clothes glasses goggles headphones jeans pajamas pants scissors shorts sunglasses tights trousers"
)
#: Singular, though they look like plurals.
IN_S = _set(
    "alias asparagus atlas bias canvas chaos christmas cosmos cyclops gas lens pancreas rhinoceros thermos "
    "triceratops"
)
MANS = _set("caiman german human norman ottoman roman shaman talisman")  # plural in -s
MENS = _set("abdomen acumen amen men omen ramen regimen specimen stamen")  # singular, or irregular
IRREGULAR = {
    "calf": "calves", "child": "children", "die": "dice", "elf": "elves", "foot": "feet", "goose": "geese",
    "half": "halves", "hero": "heroes", "hoof": "hooves", "knife": "knives", "leaf": "leaves",
    "life": "lives",
    "loaf": "loaves",
    "louse": "lice", "man": "men", "mouse": "mice", "ox": "oxen", "person": "people",
    "potato": "potatoes", "scarf": "scarves", "shelf": "shelves", "thief": "thieves", "tomato": "tomatoes",
    "tooth": "teeth", "wife": "wives", "wolf": "wolves", "woman": "women",
}  # fmt: skip
FROM_PLURAL = {many: one for one, many in IRREGULAR.items()}
#: Letters said one by one whose names begin with a vowel: "x-ray", "F1 car", "HDR photo", "MRI scan".
SPELLED = (
    r"[fhlmnrsx](?:[-\s\d&]|$)|(?-i:(?!(?:MRS?|MS|MT|ST)\b)[FHLMNRSX][B-DF-HJ-NP-TV-XZ]+\d*\b)"
    r"|(?:fbi|hdr|lcd|led|mba|mp[34]|mri|nba|ngo|nyc|nypd|rv|sos|suv)\b"
)
AN_BEFORE = re.compile(
    rf"(?:[aeio]|u(?!s[aeu]|t[aeio]|ke|rop|rin|kul)|h(?:eir|onest|onou?r|our|ors d)|8|11|18(?!\d(?!\d))|{SPELLED})",
    re.I,
)
#: Of what begins with "uni", a denial takes "an": "unidentified", "unimpressed", "uninhabited".
A_BEFORE = re.compile(
    r"(?:eu|ewe|one\b|onesie|once\b|ouija|uni(?!deal|den|gn|ll|m(?!o)|n|r[or]|ss)|ufo|11\d"
    r"|u(?:-|sb?\b|v\b|k\b|n\b|kr|gan|rol|vu|biq|nanim))",
    re.I,
)


def words_of(text: str) -> list[str]:
    """Lower-case words: `"A cat's T-shirt"` → `["a", "cat", "t", "shirt"]`; a possessive s is dropped."""
    spelled = re.sub(r"['’]s\b", "", text.casefold()).replace("'", "").replace("’", "")
    return WORD.findall(spelled)


def plural(word: str) -> str:
    """The plural of an English noun: `"fox"` → `"foxes"`."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith("man") and word not in MANS:
        return word[:-3] + "men"
    if word in SAME_IN_PLURAL or word in PLURAL_ONLY or word in FROM_PLURAL:
        return word
    if re.search(r"(?:s|x|z|ch|sh)$", word):
        return word + "es"
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + "s"


def singular(word: str) -> str:
    """The singular of an English noun, the word itself if it is none: `"ponies"` → `"pony"`."""
    if word in FROM_PLURAL:
        return FROM_PLURAL[word]
    if word in PLURAL_ONLY or word in SAME_IN_PLURAL or not is_plural(word):
        return word
    return next(iter(_singulars(word)), word)


def _singulars(word: str) -> list[str]:
    """Every word whose plural this may be, the likeliest first: an axe and an ax both make axes."""
    if word.endswith("men"):
        return [word[:-3] + "man"]
    candidates = [word[:-3] + "y" if word.endswith("ies") else "", word[:-1], word[:-2]]
    if re.search(r"(?:[^aeiou]s|x|z|ch|sh|bus|gas)es$", word) and not word.endswith("rses"):
        candidates.reverse()
    candidates.sort(key=lambda one: one not in IN_S)
    return [one for one in candidates if len(one) > 1 and plural(one) == word]


def is_plural(word: str) -> bool:
    """Whether a word looks like a plural: `"cats"`, `"glasses"`, not `"glass"` or `"bus"`."""
    if word in FROM_PLURAL or word in PLURAL_ONLY:
        return True
    if word in IN_S or word in SAME_IN_PLURAL:
        return False
    if word.endswith("men"):
        return word not in MENS
    return len(word) > 3 and word.endswith("s") and not re.search(r"(?:ss|us|is)$", word)


def forms(word: str) -> frozenset[str]:
    """A word with its singular and plural."""
    one = singular(word)
    others = _singulars(word) if one != word else []
    return frozenset({word, one, plural(one), *others})


def head(phrase: str) -> int:
    """Which word of a phrase it is about: 0 for "cat wearing a hat", 1 for "flat drawing"."""
    words = phrase.casefold().split()
    for position, word in enumerate(words):
        if position and word in CONNECTING:
            return position - 1
    return len(words) - 1


def article(phrase: str) -> str:
    """`"a"`, `"an"`, or nothing for what takes none: a plural, grass, "the sea"."""
    words = phrase.casefold().split()
    if not words or words[0] in DETERMINERS or words[0] in CONNECTING:
        return ""
    noun = words[head(phrase)]
    if noun in UNCOUNTABLE or is_plural(noun) or not noun.isascii():
        return ""
    return "an" if AN_BEFORE.match(phrase) and not A_BEFORE.match(phrase) else "a"


def with_article(phrase: str) -> str:
    """`"cat"` → `"a cat"`, `"elephant"` → `"an elephant"`, `"grass"` → `"grass"`."""
    return f"{article(phrase)} {phrase}".strip()


def names_concept(caption: str, concept: str) -> bool:
    """Whether a caption holds every word that matters of a concept, in singular or plural, in any order.

    Articles and words such as "with" and "wearing" do not matter. A concept in a script without spaces is
    looked for as it stands.
    """
    if not concept.isascii() and " " not in concept.strip():
        return concept.strip().casefold() in caption.casefold()
    said = set(words_of(caption))
    asked = words_of(concept)
    needed = [word for word in asked if word not in UNNEEDED] or asked
    return bool(needed) and all(said & forms(word) for word in needed)


def find_phrase(caption: str, concept: str) -> re.Match[str] | None:
    """Where a concept stands in a caption as one phrase, in singular or plural: group 2, after its article, group 1."""
    pattern = r"\s+".join(
        "(?:" + "|".join(sorted(map(re.escape, forms(word)), key=len, reverse=True)) + ")"
        for word in concept.casefold().split()
    )
    if not pattern:
        return None
    return re.search(rf"(?:\b(an?)\s+)?(?<![\w])({pattern})(?![\w])", caption, re.IGNORECASE)


def swap_concept(caption: str, source: str, target: str) -> str | None:
    """The caption with `source` replaced by `target`, in number and with the article that it then takes.

    `("A cat sits", "cat", "elephant")` → `"An elephant sits"`; None if `source` does not stand there as one
    phrase.
    """
    match = find_phrase(caption, source)
    if match is None:
        return None
    noun = match.group(2).casefold().split()[head(source)]
    new = target.strip()
    if is_plural(noun) and not is_plural(source.casefold().split()[head(source)]):
        parts = new.split()
        parts[head(new)] = plural(parts[head(new)])
        new = " ".join(parts)
    if match.group(1):
        new = with_article(new)
    if match.group(0)[0].isupper():
        new = new[:1].upper() + new[1:]
    return caption[: match.start()] + new + caption[match.end() :]
