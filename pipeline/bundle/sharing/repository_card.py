"""The page of a hub's repository, made from a bundle's model card; a page that a person edited is recognised."""

import hashlib
import re

from pipeline.bundle.sharing.place import HubPlace

PAGE = "README.md"
#: Beside the page, because model cards link to it.
DATA_LICENCE = "data_license.txt"
_MARK = re.compile(r"\n<!-- pipeline bundle push: (?P<bundle>\S+) (?P<digest>[0-9a-f]{64}) -->\n\Z")
_HEADER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
# What a licence's text holds, and the hub's name for it.
_LICENCES = (
    (("Apache License", "Version 2.0"), "apache-2.0"),
    (("MIT License",), "mit"),
    (("Redistribution and use in source", "Neither the name of"), "bsd-3-clause"),
    (("GNU GENERAL PUBLIC LICENSE", "Version 3"), "gpl-3.0"),
    (("Attribution-NonCommercial-ShareAlike 4.0",), "cc-by-nc-sa-4.0"),
    (("Attribution-NonCommercial 4.0",), "cc-by-nc-4.0"),
    (("Attribution-ShareAlike 4.0",), "cc-by-sa-4.0"),
    (("Attribution 4.0 International",), "cc-by-4.0"),
)


def name_licence(text: str) -> str:
    r"""Return the hub's name of a licence.

    Example:
        >>> name_licence("MIT License\nCopyright ..."), name_licence("Apache-2.0"), name_licence("All rights reserved")
        ('mit', 'apache-2.0', 'other')
    """
    identifier = text.strip().lower()
    return next(
        (name for parts, name in _LICENCES if identifier == name or all(part in text for part in parts)), "other"
    )


def write_card(bundle: str, card: str, licence: str, place: HubPlace, digest: str) -> str:
    """Return the repository's page: the header that the hub reads, how to get the bundle, the bundle's model card.

    Args:
        bundle: its name.
        card: its model card.
        licence: text of its licence.
        place: where it will be.
        digest: SHA-256 of its zip file.
    """
    from huggingface_hub import ModelCardData

    header = ModelCardData(
        license=name_licence(licence),
        library_name="monai",
        pipeline_tag="image-segmentation",
        tags=["monai", "medical"],
    )
    command = f"python -m pipeline bundle pull '{place}#sha256={digest}' {bundle}"
    note = f"`{place.file}` holds this bundle. Compare the digest with the one that its authors told you."
    card = _HEADER.sub("", card)
    body = f"---\n{header.to_yaml()}\n---\n\n{card.strip()}\n\n## Get it\n\n{note}\n\n```bash\n{command}\n```\n"
    return f"{body}\n<!-- pipeline bundle push: {bundle} {hashlib.sha256(body.encode()).hexdigest()} -->\n"


def may_replace(page: str | None, bundle: str) -> bool:
    """Return whether a repository's page may be written: there is none, or it is as a push of this bundle wrote it.

    Args:
        page: the page, None if there is none.
        bundle: name of the bundle.
    """
    if page is None:
        return True
    text = page.replace("\r\n", "\n")
    mark = _MARK.search(text)
    if mark is None:
        return False
    body = text[: mark.start()]
    return mark["bundle"] == bundle and hashlib.sha256(body.encode()).hexdigest() == mark["digest"]
