"""Markdown from untrusted text to HTML: no markup of its own, no images, links only to the web."""

import functools
from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererProtocol
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict


class _Markdown(MarkdownIt):
    def validateLink(self, url: str) -> bool:  # noqa: N802 - the library's name
        return url.lower().startswith(("http://", "https://"))


def _open_link(
    renderer: RendererProtocol, tokens: Sequence[Token], place: int, options: OptionsDict, _env: EnvType
) -> str:
    tokens[place].attrSet("rel", "noopener noreferrer nofollow")
    tokens[place].attrSet("target", "_blank")
    return renderer.renderToken(tokens, place, options, _env)  # type: ignore[attr-defined,no-any-return]  # the protocol leaves out what every renderer has


def _open_cell(
    renderer: RendererProtocol, tokens: Sequence[Token], place: int, options: OptionsDict, _env: EnvType
) -> str:
    # The page's content security policy forbids the style that aligns a column.
    tokens[place].attrs.pop("style", None)
    return renderer.renderToken(tokens, place, options, _env)  # type: ignore[attr-defined,no-any-return]  # as above


@functools.cache
def _markdown() -> MarkdownIt:
    markdown = _Markdown("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    # An image would be fetched from wherever the text says.
    markdown.disable("image")
    markdown.add_render_rule("link_open", _open_link)
    markdown.add_render_rule("th_open", _open_cell)
    markdown.add_render_rule("td_open", _open_cell)
    return markdown


def render(text: str) -> str:
    """Return the summary as HTML that is safe to show."""
    return str(_markdown().render(text))
