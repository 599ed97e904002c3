"""Many rows given to a statement that is the same for any number of them, on SQLite and PostgreSQL.

A parameter for each value would be a new statement for each number of rows, and end at 32,767 of them. SQLite reads a
JSON array of arrays as a table; PostgreSQL takes an array for each column, which costs it half of what JSON does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import BigInteger, FromClause, Integer, Table, Text, bindparam, column, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeEngine

WHOLE: TypeEngine[Any] = BigInteger()
TEXT: TypeEngine[Any] = Text()
SMALL: TypeEngine[Any] = Integer()
_KINDS = {BigInteger: WHOLE, Integer: SMALL}
_encode = msgspec.json.Encoder().encode


class GivenRows:
    """`table` stands for them in a statement, `of` makes its parameters. `columns` are in the order of their values;
    a statement with several of these calls each another `name`."""

    def __init__(self, dialect: str, columns: Mapping[str, TypeEngine[Any]], name: str = "rows") -> None:
        self._name = name
        self._names = [f"{name}_{named}" for named in columns] if dialect == "postgresql" else []
        self.table = _arrays(columns, name) if self._names else _json(columns, name)
        self.c = self.table.c

    def of(self, rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """The parameters for these."""
        if not self._names:
            return {self._name: _encode(rows).decode()}
        values = zip(*rows, strict=True) if rows else ((),) * len(self._names)
        return dict(zip(self._names, values, strict=True))


class ForRows:
    """A statement that takes rows; `await` it with them."""

    def __init__(self, given: GivenRows, statement: Any) -> None:
        self._given = given
        self._statement = statement

    async def __call__(self, connection: AsyncConnection, rows: Sequence[Sequence[Any]], **more: Any) -> Any:
        """`more` are its other parameters."""
        return await connection.execute(self._statement, {**self._given.of(rows), **more})


def rows_of(dialect: str, table: Table, names: Iterable[str], name: str = "rows", **others: Any) -> GivenRows:
    """Rows of these columns of a table, and of others, whose types are given."""
    kinds = {column: others[column] if column in others else _kind(table.c[column].type) for column in names}
    return GivenRows(dialect, kinds, name)


def _kind(kind: Any) -> Any:
    return next((found for known, found in _KINDS.items() if isinstance(kind, known)), TEXT)


def _arrays(columns: Mapping[str, TypeEngine[Any]], name: str) -> FromClause:
    arrays = [bindparam(f"{name}_{named}", type_=ARRAY(kind, dimensions=1)) for named, kind in columns.items()]
    found = func.unnest(*arrays).table_valued(*(column(named, kind) for named, kind in columns.items()))
    return found.render_derived(name=name)


def _json(columns: Mapping[str, TypeEngine[Any]], name: str) -> FromClause:
    each = func.json_each(bindparam(name, type_=Text())).table_valued("value", name="each_row")
    fields = [
        func.json_extract(each.c.value, f"$[{place}]", type_=kind).label(named)
        for place, (named, kind) in enumerate(columns.items())
    ]
    # SQLite takes `ON` behind a SELECT without WHERE for a join.
    return select(*fields).select_from(each).where(func.json_valid(each.c.value) >= 0).subquery(name)
