"""A hook of MkDocs for links of the documentation to files outside `docs`, such as configurations and code.

With `repo_url` in the settings they lead to the repository; without one they become plain text, as the site does not
hold these files. A link to a file that does not exist is reported, which ends a strict build.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((\.\.?/[^)#\s]*)(#[^)\s]*)?\)")

logger = logging.getLogger("mkdocs.hooks.site_links")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Rewrite the links of one page; `page` and `config` are MkDocs' own."""
    folder = Path(config.docs_dir, page.file.src_uri).parent
    return rewrite(markdown, folder, docs=Path(config.docs_dir), repository=config.repo_url)


def rewrite(markdown: str, folder: Path, *, docs: Path, repository: str | None) -> str:
    """Rewrite the relative links of a page that leave the documentation.

    Args:
        markdown: the page.
        folder: where the page is.
        docs: the folder of the documentation.
        repository: address of the repository, or None.
    """

    def replaced(match: re.Match[str]) -> str:
        text, path, anchor = match[1], match[2], match[3] or ""
        target = (folder / path).resolve()
        if target.is_relative_to(docs.resolve()) and target.is_file():
            return match[0]
        if not target.exists():
            logger.warning("%s: the link to %s leads nowhere", folder, path)
        if not repository or not target.is_relative_to(ROOT):
            return text
        return f"[{text}]({repository.rstrip('/')}/blob/main/{PurePosixPath(target.relative_to(ROOT))}{anchor})"

    return _LINK.sub(replaced, markdown)
