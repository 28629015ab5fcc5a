"""Read the countries of a label table, given as codes, as names or as both, into one list with codes."""

from typing import NamedTuple

import numpy as np

from exvo.corpus.label_columns import number
from exvo.corpus.labels import Country
from exvo.corpus.text_table import TextTable

# Countries of the challenge (ExVo 2022) in the order of their codes, for tables with names and without codes.
CHALLENGE_COUNTRIES = ("China", "South Africa", "United States", "Venezuela")
MAX_COUNTRY_CODE = 9999


class CountryColumn(NamedTuple):
    """The countries of a table, in code order, and the index of each row into them (-1 unknown) [shape=(n,), int64]."""

    countries: tuple[Country, ...]
    country: np.ndarray
    notices: list[str]
    problems: list[str]


def country_column(table: TextTable) -> CountryColumn:
    """Read ``Country``, which has codes or names, and ``Country_string``, which has names.

    Codes are those of the table, if it has any. Names without codes get the codes of the challenge if all are countries
    of the challenge, and else their alphabetical rank.
    """
    text, codes, names = _codes_and_names(table)
    if not (codes >= 0).any():
        found = sorted(set(names) - {""})
        order = CHALLENGE_COUNTRIES if set(found) <= set(CHALLENGE_COUNTRIES) else found
        code_of = {name: order.index(name) for name in found}
        codes = np.array([code_of.get(name, -1) for name in names], dtype=np.int64)
    elif (codes < 0).any():
        code_of = {n: c for c, n in zip(codes, names, strict=True) if c >= 0 and n}
        codes = np.array(
            [c if c >= 0 else code_of.get(n, -1) for c, n in zip(codes, names, strict=True)], dtype=np.int64
        )
    problems = table.row_problem(
        np.where(text == "", names, text),
        (codes < 0) & ((names != "") | (text != "")),
        "Country must be an integer from 0, or the name of a country that has one in another row",
    )
    name_of: dict[int, str] = {}
    notices = []
    for code, name in dict.fromkeys(zip(codes.tolist(), names, strict=True)):
        if code >= 0 and name_of.setdefault(code, name or str(code)) != (name or str(code)) and name:
            notices.append(
                f"Country {code} is called both {name_of[code]!r} and {name!r}; the first name is used"
            )
    countries = tuple(Country(int(code), name_of[code]) for code in sorted(name_of))
    index_of = {country.code: index for index, country in enumerate(countries)}
    index = np.array([index_of.get(code, -1) for code in codes.tolist()], dtype=np.int64)
    return CountryColumn(countries, index, sorted(set(notices)), problems)


def index_among(table: TextTable, countries: tuple[Country, ...], where: str) -> tuple[np.ndarray, list[str]]:
    """Return the index of each row into known countries (-1 unknown) [shape=(n,), int64], and the problems.

    Parameters
    ----------
    table : TextTable
    countries : tuple of Country
    where : str
        Source of the known countries, for the message.
    """
    text, codes, names = _codes_and_names(table)
    by_code = {country.code: index for index, country in enumerate(countries)}
    by_name = {country.name: index for index, country in enumerate(countries)}
    index = np.array(
        [by_code.get(c, by_name.get(n, -1)) for c, n in zip(codes, names, strict=True)], dtype=np.int64
    )
    unknown = (index < 0) & ((codes >= 0) | (names != ""))
    return index, table.row_problem(text, unknown, f"Country must be one of those in {where}")


def _codes_and_names(table: TextTable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``Country`` as text, its codes (-1 where none), and the names in it or in ``Country_string``."""
    text, names = table.names("Country"), table.names("Country_string")
    code_of_text = {value: _code(value) for value in set(text)}
    codes = np.array([code_of_text[value] for value in text], dtype=np.int64)
    return text, codes, np.where((names == "") & (codes < 0), text, names)


def _code(text: str) -> int:
    """Return the integer country code of a text such as ``2`` or ``2e+00``; -1 where it has none."""
    value = number(text) if text else np.nan
    return int(value) if 0 <= value <= MAX_COUNTRY_CODE and value == int(value) else -1
