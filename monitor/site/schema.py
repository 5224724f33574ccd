"""Which settings class stands where in the tree: for validation, errors and printed examples.

Most of the tree says so in its annotations. Where the class depends on a ``type`` (connectors,
models), the annotation carries ``ByType``.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from monitor.site.yaml_places import Path

_AS_IT_IS = core_schema.plain_serializer_function_ser_schema(
    lambda settings: settings.model_dump(mode="json")
)


@dataclass(frozen=True, slots=True)
class ByType:
    """Marks settings whose class is chosen by their ``type``; ``known`` gives the classes by type.

    The classes are looked up when settings are read, so that a new connector needs no list.
    """

    what: str  # in words, for errors: "source"
    known: Callable[[], Mapping[str, type[BaseModel]]]

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Validated by the chosen class; written as what that class is."""
        del source, handler  # the annotation says only BaseModel
        return core_schema.with_info_plain_validator_function(
            self._validate,
            serialization=_AS_IT_IS,
        )

    def _validate(self, value: object, info: ValidationInfo) -> BaseModel:
        known = self.known()
        if isinstance(value, BaseModel):
            value = value.model_dump()
        if not isinstance(value, dict):
            raise PydanticCustomError("dict_type", "want settings with a type")
        given = value.get("type")
        if given is None:
            raise PydanticCustomError("type_missing", "{known}", {"known": sorted(known)})
        if not isinstance(given, str) or given not in known:
            raise PydanticCustomError(
                "type_unknown", "{what}{known}", {"what": self.what, "known": sorted(known)}
            )
        return known[given].model_validate(value, context=info.context)

    def chosen(self, value: object) -> type[BaseModel] | None:
        """The class for this value; None where its type is unknown."""
        given = value.get("type") if isinstance(value, dict) else None
        return self.known().get(given) if isinstance(given, str) else None


def settings_class(annotation: Any, value: object) -> type[BaseModel] | None:
    """The settings class that an annotation means for this value; None where it means none."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        mark = next((mark for mark in args[1:] if isinstance(mark, ByType)), None)
        return settings_class(args[0], value) if mark is None else mark.chosen(value)
    if origin in (Union, types.UnionType):
        arms = [arm for one in args if (arm := settings_class(one, value)) is not None]
        given = value.get("type") if isinstance(value, dict) else None
        return next((arm for arm in arms if given in type_names(arm)), arms[0] if arms else None)
    return (
        annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    )


def annotation_of(settings: type[BaseModel], name: str) -> Any:
    """A field's annotation with its marks."""
    field = settings.model_fields[name]
    marked: Any = field.annotation
    for mark in field.metadata:
        marked = Annotated[marked, mark]
    return marked


def type_names(settings: type[BaseModel]) -> tuple[str, ...]:
    """The names that a settings class accepts as its ``type``."""
    field = settings.model_fields.get("type")
    literal = field is not None and get_origin(field.annotation) is Literal
    return get_args(field.annotation) if field is not None and literal else ()


def item_annotation(annotation: Any) -> Any:
    """What a mapping's values or a list's entries are annotated with; None if it is neither."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return item_annotation(args[0])
    if origin in (Union, types.UnionType):
        return next((item for arm in args if (item := item_annotation(arm)) is not None), None)
    if origin in (dict, list, tuple, Mapping):
        return next((arg for arg in reversed(args) if arg is not Ellipsis), None)
    return None


def settings_at(root: type[BaseModel], data: object, path: Path) -> type[BaseModel] | None:
    """The settings class at ``path`` below ``root``, for this data; None if none stands there."""
    annotation: Any = root
    for step in path:
        settings = settings_class(annotation, data)
        if settings is not None:
            if step not in settings.model_fields:
                return None
            annotation = annotation_of(settings, str(step))
        else:
            annotation = item_annotation(annotation)
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int):
            data = data[step] if step < len(data) else None
    return settings_class(annotation, data)
