"""Markdown from untrusted text to HTML: no markup of its own, no images, links only to the web."""

import functools
import itertools

from markdown_it import MarkdownIt


class _Markdown(MarkdownIt):
    def validateLink(self, url: str) -> bool:  # noqa: N802 - the library's name
        return url.lower().startswith(("http://", "https://", "mailto:"))


@functools.cache
def _markdown() -> MarkdownIt:
    markdown = _Markdown("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    # An image would be fetched from wherever the text says.
    return markdown.disable("image")


def render(text: str) -> str:
    """Return the summary as HTML that is safe to show."""
    markdown = _markdown()
    blocks = markdown.parse(text)
    for token in itertools.chain(blocks, *(block.children or () for block in blocks)):
        if token.type == "link_open":
            token.attrs |= {"rel": "noopener noreferrer nofollow", "target": "_blank"}
        # The page's content security policy forbids the style that aligns a column.
        token.attrs.pop("style", None)
    return str(markdown.renderer.render(blocks, markdown.options, {}))
