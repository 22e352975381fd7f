"""Parsed documents (TOML) as typed structs; the first thing that is wrong is told in one sentence that names its place."""

import enum
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, TypeGuard, TypeVar, get_args, get_origin

import msgspec

T = TypeVar("T", bound=msgspec.Struct)
Parsers = Mapping[object, Callable[[str], object]]
Hidden = Collection[object]

SHOWN_CHARACTERS = 80


class StructureError(Exception):
    """A document is not what its struct says; the message names the key (`where`), what is wrong, and what is allowed."""

    def __init__(self, where: str, told: str) -> None:
        super().__init__(f"{where} {told}")
        self.where = where


def build(raw: object, kind: type[T], parsers: Parsers, hidden: Hidden = frozenset(), where: str = "") -> T:
    """Return `raw` as an instance of the msgspec struct `kind`: every key known, none missing, no type converted.

    Fields may be structs, tuples of structs, dicts of structs by name, and whatever msgspec.convert takes; types in
    `parsers` are read from text by their function, which raises ValueError with the reason. What is allowed is told
    from a field's msgspec.Meta description. Values of types in `hidden` are never
    repeated. `where` is the key of `raw` in the whole document.
    """
    if not isinstance(raw, dict):
        raise StructureError(where, f"is no table but {type(raw).__name__}; allowed: a table")
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for key in raw:
        if key not in fields:
            raise StructureError(_join(where, key), f"is not a known key; allowed: {', '.join(fields)}")
    values = {}
    for key, field in fields.items():
        if key in raw:
            values[field.name] = _value(raw[key], field.type, parsers, hidden, _join(where, key))
        elif field.required:
            raise StructureError(_join(where, key), f"is missing; allowed: {_allowed(field.type)}")
    return kind(**values)


def _value(raw: object, kind: object, parsers: Parsers, hidden: Hidden, where: str) -> object:
    bare = _bare(kind)
    if _is_struct(bare):
        return build(raw, bare, parsers, hidden, where)
    arguments = get_args(bare)
    if get_origin(bare) is tuple and _is_struct(_bare(arguments[0])) and isinstance(raw, list):
        return tuple(
            _value(item, arguments[0], parsers, hidden, f"{where}[{number}]") for number, item in enumerate(raw)
        )
    if get_origin(bare) is dict and _is_struct(_bare(arguments[1])) and isinstance(raw, dict):
        return {key: _value(item, arguments[1], parsers, hidden, _join(where, key)) for key, item in raw.items()}

    def parse(wanted: object, text: object) -> object:
        if not isinstance(text, str):
            raise TypeError(f"text is expected, not {type(text).__name__}")
        return parsers[wanted](text)

    try:
        return msgspec.convert(raw, kind, dec_hook=parse)
    except msgspec.ValidationError as error:
        reason = str(error).replace("`", "").partition(" - at ")[0]
        value = "is wrong" if _is_hidden(kind, hidden) else f"is {_shown(raw)}"
        raise StructureError(where, f"{value} ({reason}); allowed: {_allowed(kind)}") from None


def _is_struct(kind: object) -> TypeGuard[type[msgspec.Struct]]:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _is_hidden(kind: object, hidden: Hidden) -> bool:
    return kind in hidden or any(
        _is_hidden(part, hidden) for part in get_args(kind) if not isinstance(part, msgspec.Meta)
    )


def _bare(kind: object) -> object:
    if get_origin(kind) is Annotated:
        return get_args(kind)[0]
    # TOML has no null: what may be None is either left out or all that it is otherwise.
    others = [part for part in get_args(kind) if part is not type(None)]
    return _bare(others[0]) if len(others) == 1 and len(get_args(kind)) > 1 else kind


def _allowed(kind: object) -> str:
    if get_origin(kind) is Annotated:
        for extra in get_args(kind)[1:]:
            if isinstance(extra, msgspec.Meta) and extra.description:
                return extra.description
    if type(None) in get_args(kind) and len(get_args(kind)) == 2:
        return _allowed(next(part for part in get_args(kind) if part is not type(None)))
    bare = _bare(kind)
    if isinstance(bare, type) and issubclass(bare, enum.Enum):
        return ", ".join(str(member.value) for member in bare)
    if _is_struct(bare):
        return "a table"
    inner = [argument for argument in get_args(bare) if argument not in {Ellipsis, type(None)}]
    if inner:
        described = _allowed(inner[-1])
        return f"a list, each {described}" if get_origin(bare) is tuple else described
    return getattr(bare, "__name__", str(bare))


def _join(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def _shown(raw: object) -> str:
    return repr(raw)[:SHOWN_CHARACTERS]
