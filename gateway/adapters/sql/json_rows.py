"""Many rows in one parameter: a JSON array that the database reads as a table. One statement for SQLite and PostgreSQL.

A list of parameters a row would be a new statement for each number of rows, and end at 32,767 of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import JSON, BigInteger, FromClause, Integer, Text, bindparam, cast, column, func, select
from sqlalchemy.types import TypeEngine

WHOLE: TypeEngine[Any] = BigInteger()
TEXT: TypeEngine[Any] = Text()
SMALL: TypeEngine[Any] = Integer()


def json_rows(dialect: str, name: str, columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
    """A table of these columns, given as the parameter `name`: the text of a JSON array of objects."""
    if dialect == "postgresql":
        array = cast(bindparam(name, type_=Text()), JSON())
        found = func.json_to_recordset(array).table_valued(*(column(key, kind) for key, kind in columns.items()))
        return found.render_derived(name=name, with_types=True)
    each = func.json_each(bindparam(name, type_=Text())).table_valued("value", name=f"each_{name}")
    # SQLite takes `ON` behind a SELECT without WHERE for a join.
    fields = [func.json_extract(each.c.value, f"$.{key}", type_=kind).label(key) for key, kind in columns.items()]
    return select(*fields).select_from(each).where(func.json_valid(each.c.value) >= 0).subquery(name)
