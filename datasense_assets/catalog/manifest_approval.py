"""What stands against a whole manifest that the file alone does not tell: other rooms' judgement, and the keys here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from datasense_assets.catalog.credentials import SecretReference, opens
from datasense_assets.catalog.manifest import Manifest, SourceManifest
from datasense_assets.catalog.models import Problem


def check_manifest(
    manifest: Manifest,
    *,
    secret_keys: Collection[str] = (),
    check_source: Callable[[SourceManifest], list[Problem]] | None = None,
    check_recipes: Callable[[Manifest], list[Problem]] | None = None,
) -> list[Problem]:
    """What only other rooms can judge: configs by `check_source` (its paths count from the source), recipes by
    `check_recipes` (paths from the file); and whether encrypted secrets open with `secret_keys`, where given.
    """
    problems: list[Problem] = []
    for index, source in enumerate(manifest.sources):
        at = f"sources[{index}]"
        if check_source is not None:
            problems += [p.model_copy(update={"path": f"{at}.{p.path}"}) for p in check_source(source)]
        secrets = ((f"{at}.credentials.{name}", reference) for name, reference in source.credentials.items())
        problems += _locked(secrets, secret_keys)
    org = manifest.organization
    own = [(f"organization.contacts[{index}]", each) for index, each in enumerate(org.contacts)]
    if org.warehouse is not None:
        own.append(("organization.warehouse", org.warehouse))
    problems += _locked(iter(own), secret_keys)
    if check_recipes is not None:
        problems += check_recipes(manifest)
    return problems


def _locked(secrets: Iterator[tuple[str, SecretReference]], keys: Collection[str]) -> Iterator[Problem]:
    for at, reference in secrets:
        if keys and reference.encrypted is not None and not opens(reference.encrypted, keys):
            fix = "Add the key it was made with to DATASENSE_SECRET_KEY, or give the secret by env or file."
            yield Problem(path=at, message="no key here opens this encrypted secret.", fix=fix)
