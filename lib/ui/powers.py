"""Small numbers as powers of ten, in one style on all pages."""

_RAISED = str.maketrans(
    "0123456789", "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"
)


def raised(text: str) -> str:
    """``4.0e-04`` as 4.0 times 10 with a raised minus and 4; a number without ``e-`` as it is."""
    digits, _, exponent = text.partition("e-")
    if not exponent:
        return digits
    return f"{digits}\u00a0\u00d7\u00a010\u207b{str(int(exponent)).translate(_RAISED)}"
