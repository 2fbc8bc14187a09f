"""One op with its specs and checks → an `AssetsDefinition`, by Dagster's public constructors.

The decorators cost twice as much: they look at the function's signature, its types and its resources anew for each of
thousands of ops that differ in nothing but their row, and write description and metadata into outputs that the specs
hold already, which every snapshot of the location then carries twice (docs/decisions/graph-nodes.md).
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

Compute = Callable[[dg.AssetExecutionContext], Iterator[Any]]

_IN = dg.In(dg.Nothing)
_NEEDED = dg.Out(dg.Nothing)
_MAY_BE_LEFT_OUT = dg.Out(dg.Nothing, is_required=False)


def _shape(context: dg.AssetExecutionContext, _: Mapping[str, Any]) -> Iterator[Any]:
    """What every op looks like to Dagster."""
    raise NotImplementedError


_SIGNATURE = inspect.signature(_shape)
_NO_CONFIG = dg.OpDefinition(_shape, "shape").config_schema


class SharedNode(dg.AssetsDefinition):
    """An asset whose op needs no resource, so that a repository need not make it a second time to give it some."""

    def with_resources(self, resource_defs: Mapping[str, Any]) -> "SharedNode":  # noqa: ARG002 - Dagster's signature
        """Itself."""
        return self


def asset_node(
    name: str,
    compute: Compute,
    specs: Sequence[dg.AssetSpec],
    *,
    pool: str | None = None,
    checks: Sequence[dg.AssetCheckSpec] = (),
    can_subset: bool = False,
    backfill_policy: dg.BackfillPolicy | None = None,
) -> dg.AssetsDefinition:
    """The assets of `specs`, and the checks on them, made by one op that loads nothing through Dagster."""
    outputs = {spec.key.to_python_identifier(): spec for spec in specs}
    check_outputs = {check.get_python_identifier(): check for check in checks}
    own = {spec.key for spec in specs}
    inputs = _input_names(dep.asset_key for spec in specs for dep in spec.deps if dep.asset_key not in own)

    def run(context: dg.AssetExecutionContext, _: Mapping[str, Any]) -> Iterator[Any]:
        return compute(context)

    # all have the same, so that Dagster need not work it out for each
    run.__signature__ = _SIGNATURE  # type: ignore[attr-defined]
    op = dg.OpDefinition(
        run,
        name,
        ins=dict.fromkeys(inputs, _IN),
        outs={
            **{
                output: _MAY_BE_LEFT_OUT if can_subset or spec.skippable else _NEEDED
                for output, spec in outputs.items()
            },
            **dict.fromkeys(check_outputs, _MAY_BE_LEFT_OUT if can_subset else _NEEDED),
        },
        config_schema=_NO_CONFIG,
        pool=pool,
    )
    return SharedNode(
        keys_by_input_name=inputs,
        keys_by_output_name={output: spec.key for output, spec in outputs.items()},
        node_def=op,
        can_subset=can_subset,
        backfill_policy=backfill_policy,
        check_specs_by_output_name=check_outputs,
        specs=specs,
    )


def _input_names(keys: Any) -> dict[str, dg.AssetKey]:
    """A name for each input; two keys may spell alike once their parts are joined."""
    named: dict[str, dg.AssetKey] = {}
    for key in dict.fromkeys(keys):
        name = key.to_python_identifier()
        named[name if name not in named else f"{name}__{len(named)}"] = key
    return named
