"""The union of all steps of the language."""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from datasense_assets.recipes.language.columns import (
    Case,
    Cast,
    Coalesce,
    Concat,
    Drop,
    Formula,
    Rename,
    ReplaceValues,
    Select,
    SplitChoices,
)
from datasense_assets.recipes.language.derived import Bin, DatePart, ExpandJson, Geopoint, LabelValues
from datasense_assets.recipes.language.reshaping import Deduplicate, Pivot, Unpivot
from datasense_assets.recipes.language.rows import ExpandList, Filter, Limit, Sort
from datasense_assets.recipes.language.tables import Aggregate, Join, Union
from datasense_assets.recipes.language.texts import CleanText, Extract, Mask, SplitColumn
from datasense_assets.recipes.language.windows import FillMissing, Window

Step = Annotated[
    Select
    | Drop
    | Rename
    | Filter
    | Cast
    | Formula
    | ReplaceValues
    | Coalesce
    | Case
    | Concat
    | Join
    | Union
    | Aggregate
    | ExpandList
    | SplitChoices
    | DatePart
    | Window
    | Deduplicate
    | CleanText
    | FillMissing
    | Pivot
    | Unpivot
    | Extract
    | SplitColumn
    | Geopoint
    | LabelValues
    | Bin
    | Mask
    | ExpandJson
    | Sort
    | Limit,
    Field(discriminator="op"),
]

STEP_MODELS = {get_args(model.model_fields["op"].annotation)[0]: model for model in get_args(get_args(Step)[0])}
"""Step model by `op`, in the order of the reference."""
