"""Numbers as a person reads them: three significant digits, a true minus sign, a unit."""

import math
from collections.abc import Sequence

MINUS = "−"
MISSING = "–"
MEBIBYTE = 2**20
GIBIBYTE = 2**30


def number(value: float, *, signed: bool = False) -> str:
    """A number with three significant digits.

    Args:
        value: Any number; one that is not finite reads as a dash.
        signed: Whether a positive number carries its sign too.

    Examples:
        >>> number(0.012345), number(-1234.5), number(2.0, signed=True), number(math.nan)
        ('0.0123', '−1230', '+2.00', '–')
    """
    if not math.isfinite(value):
        return MISSING
    size = abs(value)
    if size == 0:
        return "0"
    # Rounding first: 9.996 has two digits before the point once it is written with three.
    rounded = float(f"{size:.2e}")
    exponent = math.floor(math.log10(rounded))
    if exponent < -4 or exponent > 5:
        mantissa = rounded / 10.0**exponent if exponent > -300 else rounded * 10.0**-exponent
        text = f"{mantissa:.2f}·{power_of_ten(exponent)}"
    else:
        text = f"{rounded:.{max(2 - exponent, 0)}f}"
    sign = MINUS if value < 0 else "+" if signed else ""
    return sign + text


def mebibytes(size_bytes: float) -> str:
    """A size in MiB.

    Examples:
        >>> mebibytes(3 * 2**20)
        '3.00 MiB'
    """
    return f"{number(size_bytes / MEBIBYTE)} MiB"


def limit(size_bytes: float) -> str:
    """A limit or a budget as it was set, which is a round number, in the larger unit that fits.

    Examples:
        >>> limit(4 * 2**30), limit(48 * 2**20)
        ('4 GiB', '48 MiB')
    """
    unit, name = (GIBIBYTE, "GiB") if size_bytes >= GIBIBYTE else (MEBIBYTE, "MiB")
    return f"{size_bytes / unit:.4g} {name}"


def short(size: float) -> str:
    """A large number short enough for a tick.

    Args:
        size: Zero or more.

    Examples:
        >>> short(256), short(1024), short(42634), short(8546314)
        ('256', '1,024', '42.6 k', '8.55 M')
    """
    for unit, name in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if size >= 10 * unit or (size >= unit and unit > 10**3):
            return f"{size / unit:.3g}{name}"
    return f"{size:,.4g}"


def milliseconds(duration_ms: float) -> str:
    """A duration in ms."""
    return f"{number(duration_ms)} ms"


def ratio(value: float) -> str:
    """How many times one quantity is another.

    Examples:
        >>> ratio(3.417)
        '3.42×'
    """
    return f"{number(value)}×"


def degrees(angle_deg: float) -> str:
    """An angle in whole degrees, or a dash where there is none."""
    return f"{angle_deg:.0f}°" if math.isfinite(angle_deg) else MISSING


def count(amount: int, singular: str, plural: str | None = None) -> str:
    """An amount and its noun.

    Examples:
        >>> count(1, "pair"), count(2, "pair")
        ('1 pair', '2 pairs')
    """
    return f"{amount} {singular if amount == 1 else plural or singular + 's'}"


def share(amount: int, total: int, noun: str) -> str:
    """How many of how many, up to the verb.

    Examples:
        >>> share(1, 3, "pair"), share(2, 3, "pair"), share(0, 1, "pair")
        ('1 of 3 pairs is', '2 of 3 pairs are', '0 of 1 pair is')
    """
    return f"{amount} of {count(total, noun)} {'is' if amount == 1 or total == 1 else 'are'}"


def listed(items: Sequence[str], limit: int = 3) -> str:
    """Names in a sentence; beyond the limit only how many more there are.

    Examples:
        >>> listed(["a", "b", "c"]), listed(["a", "b", "c", "d", "e"])
        ('a, b and c', 'a, b, c and 2 more')
    """
    if len(items) > limit:
        return f"{', '.join(items[:limit])} and {len(items) - limit} more"
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def pair(first: str, second: str) -> str:
    """Two names without repeating the word they share.

    Examples:
        >>> pair("sample 12", "sample 31"), pair("parity", "digit")
        ('sample 12 and 31', 'parity and digit')
    """
    word, space, rest = second.rpartition(" ")
    if space and first.startswith(word + " "):
        return f"{first} and {rest}"
    return f"{first} and {second}"


def capitalised(text: str) -> str:
    """A sentence's beginning with its first letter in upper case, and the rest as it is.

    Examples:
        >>> capitalised("loss of task B"), capitalised("")
        ('Loss of task B', '')
    """
    return text[:1].upper() + text[1:]


def power_of_ten(exponent: int) -> str:
    """A power of ten.

    Examples:
        >>> power_of_ten(-12)
        '10⁻¹²'
    """
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
